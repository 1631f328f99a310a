#pragma once

// Activations of vectors, to about 2e-7 of the larger of input and output. Compiled once per
// instruction set.

#include "cpu/vector.h"
#include "kernels/sparse.h"

namespace strop::cpu::STROP_ISA {

STROP_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
  return Vec::wrap(multiply_add(a.v, b.v, c.v));
}

// 2^n for whole n in [-126, 127].
STROP_INLINE Vec power_of_two(Vec n) {
  const Vec shifted = n + Vec(0x1.8p23f + 127.0f);
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(shifted.v) << 23));
}

// e^x = 2^n e^r, |r| <= ln(2) / 2, by e^r's series to r^7. Goes to Inf and to 0 where e^x does.
STROP_INLINE Vec exponential(Vec x) {
  x = at_least(Vec(-150.0f), at_most(Vec(150.0f), x));
  const Vec n = round_half_even(x * Vec(1.44269504f));
  Vec r = multiply_add(n, Vec(-0.693145752f), x);  // ln(2) in two parts, the first of few bits
  r = multiply_add(n, Vec(-1.42860677e-6f), r);
  Vec series(1.0f / 5040);
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    series = multiply_add(series, r, Vec(term));
  }
  const Vec half = round_down(n * Vec(0.5f));  // in two steps: 2^n alone may be out of range
  return series * power_of_two(half) * power_of_two(n - half);
}

STROP_INLINE Vec over_one_plus_exponential(Vec v, Vec x) {
  return v / (Vec(1.0f) + exponential(x));
}

// erf by Abramowitz and Stegun 7.1.26: to 1.5e-7.
STROP_INLINE Vec error_function(Vec x) {
  const Vec size = magnitude(x);
  const Vec t = Vec(1.0f) / multiply_add(size, Vec(0.3275911f), Vec(1.0f));
  Vec series(1.061405429f);
  for (const float term : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) {
    series = multiply_add(series, t, Vec(term));
  }
  return with_sign_of(Vec(1.0f) - series * t * exponential(Vec(0.0f) - size * size), x);
}

STROP_INLINE Vec activated(Vec v, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return at_least(Vec(0.0f), v);
    case Activation::kGelu:
      return Vec(0.5f) * v * (Vec(1.0f) + error_function(v * Vec(0.707106781f)));
    case Activation::kGeluTanh: {  // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u)
      const Vec cubic = multiply_add(v * v * v, Vec(0.044715f), v);
      return over_one_plus_exponential(v, cubic * Vec(-1.59576912f));
    }
    case Activation::kSilu:
      return over_one_plus_exponential(v, Vec(0.0f) - v);
    default:
      return v;
  }
}

}  // namespace strop::cpu::STROP_ISA
