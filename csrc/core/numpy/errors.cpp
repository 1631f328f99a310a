#include "core/numpy/errors.h"

#include <pybind11/pybind11.h>

#include "core/argument_error.h"

namespace strop {
namespace {

void translate_argument_error(std::exception_ptr pointer) {
  try {
    if (pointer) std::rethrow_exception(pointer);
  } catch (const ArgumentError& error) {
    take_last_argument_error();
    const bool type = error.kind() == ArgumentError::Kind::kType;
    PyErr_SetString(type ? PyExc_TypeError : PyExc_ValueError, error.what());
  }
}

}  // namespace

void register_errors() { pybind11::register_local_exception_translator(translate_argument_error); }

}  // namespace strop
