#pragma once

#include <pybind11/pybind11.h>

namespace strop {

void bind_augment(pybind11::module_& cpu, pybind11::module_& reference);

}  // namespace strop
