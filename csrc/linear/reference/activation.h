#pragma once

// What follows a product, in double.

#include <cmath>

#include "linear/layout.h"

namespace strop::linear::reference {

inline double activated(double v, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return v < 0 ? 0 : v;
    case Activation::kGelu:
      return 0.5 * v * (1 + std::erf(v * std::sqrt(0.5)));
    case Activation::kGeluTanh:
      return 0.5 * v * (1 + std::tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    case Activation::kSilu:
      return v / (1 + std::exp(-v));
    default:
      return v;
  }
}

inline double bias_at(const LinearRows& args, std::int64_t n) {
  if (args.bias == nullptr) return 0;
  double value = 0;
  by_dtype(args.bias_dtype,
           [&]<class B>() { value = to_float(static_cast<const B*>(args.bias)[n]); });
  return value;
}

}  // namespace strop::linear::reference
