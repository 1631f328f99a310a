#pragma once

// The grids of formats that are no integers, for every backend: a number is brought onto its
// format's grid by any rounding, and into its range.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.h"
#include "core/portability.h"
#include "core/rounding.h"
#include "formats/number_format.h"
#if defined(__CUDACC__)
#include "core/cuda/intrinsics.cuh"
#endif

namespace strop {

// Bounds that keep NaN: x86's max and min return their second operand if either is NaN, and a GPU
// has instructions that keep a NaN of both.
STROP_INLINE float max(float bound, float v) {
#if defined(__CUDA_ARCH__)
  return cuda::larger(bound, v);
#else
  return bound > v ? bound : v;
#endif
}
STROP_INLINE float min(float bound, float v) {
#if defined(__CUDA_ARCH__)
  return cuda::smaller(bound, v);
#else
  return bound < v ? bound : v;
#endif
}
STROP_INLINE double max(double bound, double v) { return bound > v ? bound : v; }
STROP_INLINE double min(double bound, double v) { return bound < v ? bound : v; }

STROP_INLINE float select(bool truth, float a, float b) { return truth ? a : b; }
STROP_INLINE double select(bool truth, double a, double b) { return truth ? a : b; }

// Whether two numbers are equal, or one is less, and the kind of truth that T has.
STROP_INLINE bool eq(float a, float b) { return a == b; }
STROP_INLINE bool eq(double a, double b) { return a == b; }
STROP_INLINE bool lt(float a, float b) { return a < b; }
STROP_INLINE bool lt(double a, double b) { return a < b; }
template <class T>
using Truth = decltype(eq(T{}, T{}));

// A number of a rule in the type of the arithmetic.
template <class T>
STROP_INLINE T number(double v) {
  if constexpr (std::is_same_v<T, double>) {
    return v;
  } else {
    return T(static_cast<float>(v));
  }
}

// A result, and its bit of the mask.
template <class T>
struct Quantized {
  T value;
  Truth<T> in_range;
};

STROP_INLINE std::uint64_t double_bits(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
STROP_INLINE double bits_double(std::uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The largest power of two that is at most |v|: its exponent bits alone. 0 for subnormals, Inf for
// Inf and NaN.
STROP_INLINE float power_of_two_below(float v) { return bits_float(float_bits(v) & 0x7f800000u); }
STROP_INLINE double power_of_two_below(double v) {
  return bits_double(double_bits(v) & 0x7ff0000000000000u);
}

// 1 / p, where p is a power of two and the result no subnormal.
STROP_INLINE float inverse_of_power(float p) { return bits_float(0x7f000000u - float_bits(p)); }
STROP_INLINE double inverse_of_power(double p) {
  return bits_double(0x7fe0000000000000u - double_bits(p));
}

// `value`, which is not negative, with the sign of another.
STROP_INLINE float set_sign(float value, float sign) { return __builtin_copysignf(value, sign); }
STROP_INLINE double set_sign(double value, double sign) { return __builtin_copysign(value, sign); }

// The grid of a float format. T is float, double or a vector of floats.
template <class T>
struct FloatGrid {
  T max;
  T smallest_normal;
  T magic;  // times a power of two: the number whose units in the last place are the grid's steps
  T step;   // of the binade from 1 to 2
};

template <class T>
STROP_INLINE FloatGrid<T> float_grid(double max, int min_exponent, int mantissa) {
  constexpr int kMantissa = std::is_same_v<T, double> ? 52 : 23;
  return {number<T>(max), number<T>(bits_double(std::uint64_t(1023 + min_exponent) << 52)),
          number<T>(1.5 * bits_double(std::uint64_t(1023 + kMantissa - mantissa) << 52)),
          number<T>(bits_double(std::uint64_t(1023 - mantissa) << 52))};
}

// Note [Float grid]
// Within a binade the grid's steps are equal, and below the smallest normal number they stay what
// they are there. Adding 1.5 * 2^23 steps (2^52 for double) leaves no bits for less than a step,
// and the addition itself rounds to nearest, ties to even; other roundings divide by the step, a
// power of two, which is exact. What rounds up to the next binade is on the grid there as well.
// Numbers beyond the largest are clamped before they are rounded, which gives what clamping after
// it would. A zero keeps the sign of what it was rounded from, as formats with a sign bit have it.
template <class T>
STROP_INLINE Quantized<T> nearest_on_grid(T v, const FloatGrid<T>& grid) {
  const T size = magnitude(v);
  const T held = min(grid.max, size);
  const T magic = max(grid.smallest_normal, power_of_two_below(held)) * grid.magic;
  return {set_sign((held + magic) - magic, v), eq(held, size)};
}

// round(v) rounds to a whole number.
template <class T, class Round>
STROP_INLINE Quantized<T> rounded_on_grid(T v, const FloatGrid<T>& grid, Round round) {
  const T size = magnitude(v);
  const T held = min(grid.max, size);
  const T step = max(grid.smallest_normal, power_of_two_below(held)) * grid.step;
  const T steps = set_sign(held, v) * inverse_of_power(step);
  return {set_sign(magnitude(round(steps) * step), v), eq(held, size)};
}

template <Rounding kRounding, class T>
STROP_INLINE Quantized<T> on_grid(T v, const FloatGrid<T>& grid, T u) {
  if constexpr (kRounding == Rounding::kHalfEven) {
    return nearest_on_grid(v, grid);
  } else {
    return rounded_on_grid(v, grid, [u](T steps) { return round_value<kRounding>(steps, u); });
  }
}

// NF4 (Dettmers et al., "QLoRA", 2023): quantiles of the normal distribution, and the midpoints
// between them as float32 has them, which is what bitsandbytes compares with.
STROP_INLINE constexpr float nf4_value(int code) {
  constexpr float kValues[16] = {
      -1.0f,
      -0.6961928009986877f,
      -0.5250730514526367f,
      -0.39491748809814453f,
      -0.28444138169288635f,
      -0.18477343022823334f,
      -0.09105003625154495f,
      0.0f,
      0.07958029955625534f,
      0.16093020141124725f,
      0.24611230194568634f,
      0.33791524171829224f,
      0.44070982933044434f,
      0.5626170039176941f,
      0.7229568362236023f,
      1.0f,
  };
  return kValues[code];
}
STROP_INLINE constexpr float nf4_midpoint(int code) {  // between a code and the next
  return static_cast<float>(
      (static_cast<double>(nf4_value(code)) + static_cast<double>(nf4_value(code + 1))) / 2);
}

// The nearest of the sixteen, the lower one of two that are as near. NaN stays NaN. Vectors have
// their own.
template <class T>
STROP_INLINE T nearest_nf4(T v) {
  T value(nf4_value(0));
  for (int i = 0; i < 15; ++i) {
    value = select(lt(T(nf4_midpoint(i)), v), T(nf4_value(i + 1)), value);
  }
  return select(eq(v, v), value, v);
}

template <class T>
struct Nf4Grid {};

template <class T>
STROP_INLINE Quantized<T> nearest_on_grid(T v, const Nf4Grid<T>&) {
  return {nearest_nf4(v), eq(min(T(1.0f), magnitude(v)), magnitude(v))};
}
template <Rounding kRounding, class T>
STROP_INLINE Quantized<T> on_grid(T v, const Nf4Grid<T>& grid, T) {
  return nearest_on_grid(v, grid);
}

}  // namespace strop
