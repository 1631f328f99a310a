#pragma once

#include <pybind11/pybind11.h>

namespace strop {

// The kernels and the oracle of quantize over numpy arrays, and its specification table.
void bind_quantize(pybind11::module_& root, pybind11::module_& cpu, pybind11::module_& reference);

}  // namespace strop
