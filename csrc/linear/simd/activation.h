#pragma once

// Activations of vectors, to about 3e-7 of the larger of input and output. Compiled once per
// instruction set.

#include "core/simd/vector.h"
#include "linear/layout.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// a * b + c: in one rounding where there is an FMA, or in two everywhere.
template <bool kFused>
STROP_INLINE Vec combine(Vec a, Vec b, Vec c) {
  if constexpr (kFused) return multiply_add(a, b, c);
  return a * b + c;
}

// 2^n for whole n in [-126, 127].
STROP_INLINE Vec power_of_two(Vec n) {
  const Vec shifted = n + Vec(0x1.8p23f + 127.0f);
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(shifted.v) << 23));
}

// e^x = 2^n e^r, |r| <= ln(2) / 2, by e^r's series to r^7. Goes to Inf and to 0 where e^x does.
template <bool kFused>
STROP_INLINE Vec exponential(Vec x) {
  x = max(Vec(-150.0f), min(Vec(150.0f), x));
  const Vec n = round_half_even(x * Vec(1.44269504f));
  Vec r = combine<kFused>(n, Vec(-0.693145752f), x);  // ln(2) in two parts, the first of few bits
  r = combine<kFused>(n, Vec(-1.42860677e-6f), r);
  Vec series(1.0f / 5040);
  for (const float term : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    series = combine<kFused>(series, r, Vec(term));
  }
  const Vec half = round_down(n * Vec(0.5f));  // in two steps: 2^n alone may be out of range
  return series * power_of_two(half) * power_of_two(n - half);
}

template <bool kFused>
STROP_INLINE Vec over_one_plus_exponential(Vec v, Vec x) {
  return v / (Vec(1.0f) + exponential<kFused>(x));
}

// (1 + erf(v / sqrt(2))) / 2, the normal distribution, to 3e-7: 1/2 and v times a polynomial in u,
// v^2 on [-1, 1], by even and odd powers. From 5.3 on it is 1 and 0, the latter so that GELU of
// -Inf is NaN, as in torch. (The coefficients are those of the least error that reaches 1 there.
// Without a division and e^x it takes a fifth of the time of erf by its formulas.)
template <bool kFused>
STROP_INLINE Vec normal_distribution(Vec v) {
  constexpr float kEnd = 5.303300857543945f;
  constexpr float kEven[] = {0.13330978f,   0.049236763f,  0.032121476f, 0.018689526f,
                             0.0096589504f, 0.0019000502f, 0.0016948010f};
  constexpr float kOdd[] = {-0.066478372f,  -0.039586157f,  -0.025233150f,  -0.013515150f,
                            -0.0053334972f, -0.0015638714f, -0.00062022073f};
  v = max(Vec(-kEnd), min(Vec(kEnd), v));
  const Vec u = combine<kFused>(v * v, Vec(2 / (kEnd * kEnd)), Vec(-1.0f)), square = u * u;
  Vec even(kEven[6]), odd(kOdd[6]);
  for (int i = 5; i >= 0; --i) {
    even = combine<kFused>(even, square, Vec(kEven[i]));
    odd = combine<kFused>(odd, square, Vec(kOdd[i]));
  }
  const Vec share = combine<kFused>(v, combine<kFused>(odd, u, even), Vec(0.5f));
  return max(Vec(0.0f), min(Vec(1.0f), share));
}

// Without fusing, the same bits on every instruction set.
template <bool kFused = true>
STROP_INLINE Vec activated(Vec v, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return max(Vec(0.0f), v);
    case Activation::kGelu:
      return v * normal_distribution<kFused>(v);
    case Activation::kGeluTanh: {  // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u)
      const Vec cubic = combine<kFused>(v * v * v, Vec(0.044715f), v);
      return over_one_plus_exponential<kFused>(v, cubic * Vec(-1.59576912f));
    }
    case Activation::kSilu:
      return over_one_plus_exponential<kFused>(v, Vec(0.0f) - v);
    default:
      return v;
  }
}

}  // namespace strop::linear::simd::STROP_ISA
