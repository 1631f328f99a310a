#pragma once

#include <cfloat>
#include <cstdint>
#include <limits>

#include "core/execution.h"
#include "core/portability.h"
#include "core/rounding.h"
#include "core/tensor_view.h"
#include "formats/number_grid.h"
#include "quantize/spec.h"

namespace strop::quantize {

// fake_quantize: every element to its code in a number format and back, in one pass.
//
//   inverse = 1 / scale
//   code    = clamp(round(x * inverse) + zero_point, quant_min, quant_max)     integer zero point
//   code    = clamp(round(x * inverse + zero_point), quant_min, quant_max)     floating zero point
//   y       = (code - zero_point) * scale
//
// in an integer format, and in all others
//
//   y       = grid(x * inverse) * scale                   the format's nearest value, or as rounded
//
// in float32 for float32, bfloat16 and float16 (float64 for float64), each operation rounded once,
// never contracted. NaN stays NaN, Inf saturates. Given scales are taken as they are: 0, negative
// and non-finite ones give what the arithmetic gives. What the dtype cannot hold becomes its
// largest number: Note [Saturation].
//
// A block is block_size elements in each dimension (the last may be short); each block has its own
// scale and zero point. Without a scale they follow from the block's extremes, by choose_symmetric
// or choose_asymmetric below.
//
// The output may be the input itself: each element is read before it is written, and a dynamic
// block's extremes are read before any of it is written.

constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// One dimension of a problem: how many elements, how many to a block, and the steps (in elements)
// of each tensor: for input, output and index per element, for scale and zero point per block.
// `index` is the row-major position in the caller's shape, which the random numbers of stochastic
// rounding are a function of.
struct QuantizeDim {
  std::int64_t size;
  std::int64_t block;
  std::int64_t input;
  std::int64_t output;
  std::int64_t scale;
  std::int64_t zero_point;
  std::int64_t index;

  constexpr std::int64_t blocks() const { return divide_up(size, block); }
};

struct FakeQuantizeArgs {
  DType dtype;  // of input and output
  const void* input;
  void* output;
  const void* scale;       // float32 (float64 for float64); nullptr: dynamic
  const void* zero_point;  // nullptr: 0 with a scale, chosen without one
  DType zero_point_dtype;
  // nullptr, or a bit for every element of the output, which is dense then; low bits first, in
  // whole words of 32, all 0 before. Bit i is of output[i]: whether its code was in range before it
  // was clamped, which is where a gradient passes. NaN is not.
  std::uint8_t* mask;
  std::uint64_t seed;
  const std::uint64_t* seed_at;  // nullptr, or where a GPU finds the seed instead
  // Of dynamic scales in two levels: the upper one, in the type of the arithmetic and where the
  // kernel runs. nullptr before the first of the two passes.
  const void* tensor_scale;
  QuantizeRule rule;
  std::int64_t first_index;  // of the first element, where this is a part of a problem
  int dims;                  // at least 1
  QuantizeDim dim[kMaxDims];

  constexpr bool dynamic() const { return scale == nullptr; }
  std::int64_t elements() const;
  std::int64_t slabs() const;      // see Note [Quantize tiles] in quantize/kernels.h
  std::int64_t slab_rows() const;  // of a full one
  constexpr bool zero_point_is_floating() const {
    return zero_point != nullptr && is_floating(zero_point_dtype);
  }
};

void run(const FakeQuantizeArgs& args, Oracle);
void run(const FakeQuantizeArgs& args, const ExecutionOptions& options);
// On a GPU, with so many bytes of any content; to the bit as on a CPU. Nothing is waited for.
std::size_t workspace_bytes(const FakeQuantizeArgs& args, const Launch& on);
void run(const FakeQuantizeArgs& args, void* workspace, const Launch& on);

// Tiles of a problem: see Note [Quantize tiles] in quantize/kernels.h. They are numbered column
// pieces first, then row pieces, then slabs.
struct TileShape {
  std::int64_t rows;     // of a full tile
  std::int64_t columns;  // of a full tile: whole blocks, or a part of one
  std::int64_t row_pieces;
  std::int64_t column_pieces;
  std::int64_t tiles;
};

// One block's parameters, as the arithmetic wants them. T is float, or a vector of floats.
template <class T>
struct QuantizeParams {
  T inverse;
  T scale;
  T zero_point;
};

template <class T>
struct CodeRange {
  T min;
  T max;
};

// kFloatingZero says when the zero point is added, before rounding or after. Either sum makes the
// -0 of a rounded small negative +0: torch, which holds codes in integers, has no -0 either.
template <Rounding kRounding, bool kFloatingZero, class T>
STROP_INLINE T unclamped_code(T scaled, T zero_point, T u) {
  if constexpr (kFloatingZero) {
    return round_value<kRounding>(scaled + zero_point, u) + T(0.0f);
  } else {
    return round_value<kRounding>(scaled, u) + zero_point;
  }
}

// Note [Saturation]
// What is beyond the largest number of the output's dtype becomes that number, with its sign: Inf
// comes of nothing finite. An Inf that was given stays: x in a format without bounds, a code, scale
// or zero point. A block's largest |code - zero_point| times its scale tells whether any of its
// results can be beyond, so that most blocks never look. A format without bounds has no such code:
// there the results are looked at.
constexpr double largest_number(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return 0x1.fep127;
    case DType::kFloat16:
      return 65504.0;
    case DType::kFloat64:
      return DBL_MAX;
    default:
      return static_cast<double>(FLT_MAX);
  }
}
template <class T>
inline constexpr double kLargestNumber = largest_number(dtype_of<T>);

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
STROP_INLINE Truth<T> is_infinite(T v) {
  return eq(magnitude(v), number<T>(kInfinity));
}

// A result that may be beyond `most`. `x` is what else may have been Inf.
template <class T>
STROP_INLINE T saturated(T y, T x, const QuantizeParams<T>& p, T most) {
  const T held = min(most, max(T(0.0f) - most, y));
  const T by_params = select(is_infinite(p.scale), y, select(is_infinite(p.zero_point), y, held));
  return select(is_infinite(x), y, by_params);
}

// Whether results may be, where no |code - zero_point| exceeds a bound.
template <class T>
STROP_INLINE Truth<T> may_saturate(T bound, T scale, T most) {
  return lt(most, magnitude(bound * scale));
}

// From a code before it is clamped.
template <class T>
STROP_INLINE Quantized<T> value_of_code(T code, const QuantizeParams<T>& p,
                                        const CodeRange<T>& range) {
  const T clamped = min(range.max, max(range.min, code));
  return {(clamped - p.zero_point) * p.scale, eq(clamped, code)};
}

// The formula as it stands.
template <Rounding kRounding, bool kFloatingZero, class T>
STROP_INLINE Quantized<T> fake_quantize_value(T x, const QuantizeParams<T>& p,
                                              const CodeRange<T>& range, T u) {
  const T code = unclamped_code<kRounding, kFloatingZero>(x * p.inverse, p.zero_point, u);
  return value_of_code(code, p, range);
}

// Note [Shifted range]
// With an integer zero point z, clamp(n + z, min, max) - z = clamp(n, min - z, max - z): the bounds
// are shifted once a block, and no element is. That leaves a -0 in n, which adding +0 in the
// product's own rounding (an FMA) removes. Equal to the formula to the bit where the sums are
// exact, |z| and the bounds at most kMaxShift, and where no zero is due to be -0, scale positive
// or NaN; blocks of other parameters take the formula itself. Worth a quarter of the arithmetic.
inline constexpr float kMaxShift = 0x1p22f;

STROP_INLINE float multiply_plus_zero(float a, float b) { return fmaf(a, b, 0.0f); }

template <Rounding kRounding, class T>
STROP_INLINE Quantized<T> fake_quantize_shifted(T x, T inverse, T scale,
                                                const CodeRange<T>& shifted, T u) {
  const T code = round_value<kRounding>(x * inverse, u);
  const T clamped = min(shifted.max, max(shifted.min, code));
  return {multiply_plus_zero(clamped, scale), eq(clamped, code)};
}

// The same without bounds, and so without a zero point.
template <Rounding kRounding, class T>
STROP_INLINE Quantized<T> fake_quantize_unbounded(T x, T inverse, T scale, T u) {
  const T code = round_value<kRounding>(x * inverse, u);
  return {multiply_plus_zero(code, scale), eq(code, code)};
}

// Of a format that is no integer. Grid is FloatGrid<T> or Nf4Grid<T>.
template <Rounding kRounding, class T, class Grid>
STROP_INLINE Quantized<T> fake_quantize_on_grid(T x, T inverse, T scale, const Grid& grid, T u) {
  const Quantized<T> found = on_grid<kRounding>(x * inverse, grid, u);
  return {found.value * scale, found.in_range};
}

template <class T>
STROP_INLINE FloatGrid<T> float_grid(const QuantizeRule& rule) {
  return strop::float_grid<T>(rule.quant_max, rule.layout.min_exponent(), rule.layout.mantissa);
}

// A dynamic block's parameters follow from its extremes: `amax`, the largest |x|, for a symmetric
// rule; the smallest and the largest element, both taken to include 0, for an asymmetric one. A
// block with an element that is not finite has scale NaN, and its result is NaN.
//
//   symmetric     scale = max(amax / ((quant_max - quant_min) / 2), eps), zero_point of the rule
//   asymmetric    scale = max((max - min) / (quant_max - quant_min), eps), by halves of all four
//                 where the difference would be Inf
//                 zero_point = clamp(quant_min - round_half_even(min / scale), quant_min,
//                 quant_max)
//   power of two  scale = 2^(floor(log2(amax)) - max_exponent), within 2^-127 and 2^127
//   two levels    tensor_scale = max(amax of the tensor / (448 * quant_max), eps)
//                 s = float8_e4m3fn(clamp(amax / quant_max / tensor_scale, 2^-6, 448))
//                 scale = tensor_scale * s, inverse = (1 / tensor_scale) / s
//
// Sources: torchao's choose_qparams_affine, for float32 to the bit; OCP Microscaling Formats (MX)
// Specification 1.0, 6.3; torchao's nvfp4_quantize with a scale for the tensor.
template <class T>
STROP_INLINE T finite_or_nan(T v) {
  return v + (v - v);
}

template <class T>
STROP_INLINE QuantizeParams<T> with_inverse(T scale, T zero_point) {
  return {T(1.0f) / scale, scale, zero_point};
}

// Rule is QuantizeRule, or has its numbers in another type.
template <class T, class Rule>
STROP_INLINE QuantizeParams<T> choose_symmetric(T amax, const Rule& rule) {
  const T scale = finite_or_nan(amax) / number<T>(rule.half_range());
  return with_inverse(max(number<T>(rule.eps), scale), number<T>(rule.zero_point));
}

template <class T, class Rule>
STROP_INLINE QuantizeParams<T> choose_asymmetric(T smallest, T largest, const Rule& rule) {
  const T low = number<T>(rule.quant_min);
  const T high = number<T>(rule.quant_max);
  const T below = min(T(0.0f), finite_or_nan(smallest));
  const T above = max(T(0.0f), finite_or_nan(largest));
  const T width = above - below, range = number<T>(rule.range()), half = T(0.5f);
  const Truth<T> beyond = is_infinite(width);
  const T scale = max(number<T>(rule.eps), select(beyond, above * half - below * half, width) /
                                               select(beyond, range * half, range));
  return with_inverse(scale, min(high, max(low, low - round_half_even(below / scale))));
}

inline constexpr double kMinPower = 0x1p-127;  // that a byte has as a scale
inline constexpr double kMaxPower = 0x1p127;

template <class T, class Rule>
STROP_INLINE QuantizeParams<T> choose_power_of_two(T amax, const Rule& rule) {
  const T scratch = number<T>(bits_double(std::uint64_t(1023 - rule.max_exponent) << 52));
  const T power = power_of_two_below(finite_or_nan(amax)) * scratch;
  const T held = min(number<T>(kMaxPower), max(number<T>(kMinPower), power));
  return with_inverse(held + (amax - amax), T(0.0f));
}

inline constexpr double kMaxBlockScale = 448.0;  // of float8_e4m3fn
inline constexpr double kMinBlockScale = 0x1p-6;

template <class T, class Rule>
STROP_INLINE T choose_tensor_scale(T amax, const Rule& rule) {
  const T scale = finite_or_nan(amax) / number<T>(kMaxBlockScale * rule.quant_max);
  return max(number<T>(rule.eps), scale);
}

// A block's own scale.
template <class T, class Rule>
STROP_INLINE T choose_block_scale(T amax, T tensor_scale, const Rule& rule) {
  const T wanted = amax / number<T>(rule.quant_max) / tensor_scale;
  const T held = min(number<T>(kMaxBlockScale), max(number<T>(kMinBlockScale), wanted));
  const FloatGrid<T> grid = strop::float_grid<T>(kMaxBlockScale, -6, 3);
  return on_grid<Rounding::kHalfEven>(held, grid, T(0.0f)).value;
}

template <class T>
STROP_INLINE QuantizeParams<T> in_two_levels(T tensor_scale, T block_scale) {
  return {(T(1.0f) / tensor_scale) / block_scale, tensor_scale * block_scale, T(0.0f)};
}

// Of any rule; `max` is amax where that is symmetric.
template <class T, class Rule>
STROP_INLINE QuantizeParams<T> choose_params(T min, T max, T tensor_scale, const Rule& rule) {
  switch (rule.scales) {
    case ScaleKind::kPowerOfTwo:
      return choose_power_of_two(max, rule);
    case ScaleKind::kTwoLevels:
      return in_two_levels(tensor_scale, choose_block_scale(max, tensor_scale, rule));
    default:
      return rule.symmetric ? choose_symmetric(max, rule) : choose_asymmetric(min, max, rule);
  }
}

// Extremes are gathered as integers that order as the floats do, NaN beyond Inf at either end: no
// element is lost to a comparison with NaN, and any order of gathering gives the same bits. They
// are of the storage type's bits, sign-extended: a 16-bit float needs no conversion to be compared.
// For a symmetric rule they are the bits of |x|, which order so by themselves.
STROP_INLINE std::int32_t bits_from_ordered(std::int32_t ordered, int bits) {
  const std::int32_t flip = bits == 32 ? 0x7fffffff : 0x7fff;
  return ordered ^ ((ordered >> 31) & flip);
}

}  // namespace strop::quantize
