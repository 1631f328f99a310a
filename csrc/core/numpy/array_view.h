#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <optional>
#include <string>

#include "core/tensor_view.h"

namespace strop {

// The dtype of a name such as "float32".
std::optional<DType> dtype_of_name(const std::string& name);

// A numpy array seen as a kernel sees a tensor, without a copy. Holds the array, and its shape and
// strides in elements. bfloat16 is ml_dtypes'.
class ArrayView {
 public:
  // Throws ArgumentError naming `op` and `name`; None gives an absent view.
  ArrayView(const char* op, const char* name, const pybind11::object& array, bool writes);

  const pybind11::object& object() const { return array_; }
  TensorView view() const;

 private:
  pybind11::object array_;
  TensorView view_;
  std::array<std::int64_t, kMaxDims> shape_{};
  std::array<std::int64_t, kMaxDims> stride_{};
};

}  // namespace strop
