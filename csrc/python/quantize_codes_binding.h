#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "python/array_view.h"
#include "python/keywords.h"

namespace strop {

inline pybind11::object empty_like(const pybind11::object& array) {
  return pybind11::module_::import("numpy").attr("empty_like")(array);
}

inline pybind11::object make_array(const std::vector<std::int64_t>& shape, DType dtype) {
  return pybind11::module_::import("numpy").attr("empty")(shape, dtype_name(dtype));
}

template <class Runner, class Args>
void run_without_gil(const Args& args) {
  const pybind11::gil_scoped_release release;
  Runner::run(args);
}

}  // namespace strop
