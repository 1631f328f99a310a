#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>

#include "kernels/argument_error.h"

namespace strop {

// The keyword arguments of a binding, taken one by one: an op has a dozen of them, which a C++
// signature would have to repeat.
class Keywords {
 public:
  Keywords(const char* op, const pybind11::kwargs& given)
      : op_(op), left_(given.attr("copy")().cast<pybind11::dict>()) {}

  // Throws ArgumentError where the value is of another type.
  template <class T>
  T take(const char* name, const T& otherwise) {
    if (!left_.contains(name)) return otherwise;
    const pybind11::object value = left_.attr("pop")(name);
    try {
      return value.cast<T>();
    } catch (const pybind11::cast_error&) {
      const auto kind = pybind11::type::of(value).attr("__name__").cast<std::string>();
      throw_type_error(op_, ": ", name, " is a ", kind, ", which it cannot be");
    }
  }

  // Throws ArgumentError where an argument was not taken.
  void finish() const {
    for (const auto& item : left_) {
      throw_type_error(op_, ": there is no argument ", item.first.cast<std::string>());
    }
  }

 private:
  const char* op_;
  pybind11::dict left_;
};

}  // namespace strop
