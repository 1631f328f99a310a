#pragma once

#include "augment/images.h"
#include "core/portability.h"

namespace strop::augment {

// Positions of a warp in fixed point, as CPU kernels and GPUs compute them. docs/numerics.md has
// the specification, csrc/augment/reference/images.cpp the same in plain words.

inline constexpr int kPositionBits = 15;  // of fraction
inline constexpr std::int64_t kOnePixel = std::int64_t{1} << kPositionBits;
inline constexpr int kPositionBlock = 16;  // columns that are counted from one start
// What is farther is fill: entries of a matrix, and positions in pixels.
inline constexpr double kLargestEntry = 0x1p24;
inline constexpr double kFarthestPosition = 0x1p29;

// 32 bits of fraction to the nearest position.
STROP_INLINE std::int64_t rounded_position(std::int64_t at) {
  return (at + (std::int64_t{1} << 16)) >> 17;
}

// One coordinate of the input, by column and row of the output: 32 bits of fraction.
struct PositionLine {
  std::int64_t by_column;
  std::int64_t by_row;
  std::int64_t start;

  // Where a block of columns begins, in multiples of 2^-15.
  STROP_MEMBER std::int64_t block(std::int64_t number, std::int64_t row) const {
    return rounded_position(by_column * (number * kPositionBlock) + by_row * row + start);
  }
  // From there to the k-th column of it.
  STROP_MEMBER std::int64_t step(int k) const { return rounded_position(by_column * k); }
  STROP_MEMBER std::int64_t at(std::int64_t row, std::int64_t column) const {
    return block(column / kPositionBlock, row) + step(static_cast<int>(column % kPositionBlock));
  }
};

struct PositionMap {
  PositionLine x;
  PositionLine y;
  bool near;  // false: the whole output is fill
};

STROP_INLINE std::int64_t position_units(double pixels) {
#if defined(__CUDA_ARCH__)
  return __double2ll_rn(pixels * 0x1p32);
#else
  return static_cast<std::int64_t>(__builtin_nearbyint(pixels * 0x1p32));
#endif
}

// A line of a matrix; false where it leads too far, or is not finite.
template <class Number>
STROP_INLINE bool set_line(const Number* m, std::int64_t stride, const Warp& warp,
                           PositionLine& line) {
  const double by_column = static_cast<float>(m[0]), by_row = static_cast<float>(m[stride]);
  const double start = static_cast<float>(m[2 * stride]);
  const double columns = static_cast<double>(warp.out_width - 1);
  const double rows = static_cast<double>(warp.out_height - 1);
  const double a = __builtin_fabs(by_column), b = __builtin_fabs(by_row);
  const double c = __builtin_fabs(start);
  if (!(a <= kLargestEntry && b <= kLargestEntry && c <= kLargestEntry)) return false;
  if (!(a * columns + b * rows + c <= kFarthestPosition)) return false;
  line = {position_units(by_column), position_units(by_row), position_units(start)};
  return true;
}

// Pixel centres of the output spread evenly over the input.
STROP_INLINE PositionLine spread_line(std::int64_t in, std::int64_t out, bool columns) {
  const double ratio = static_cast<double>(in) / static_cast<double>(out);
  const std::int64_t step = position_units(ratio);
  const std::int64_t start = position_units((ratio - 1) / 2);
  return columns ? PositionLine{step, 0, start} : PositionLine{0, step, start};
}

template <class Number>
STROP_INLINE bool set_lines(const Warp& warp, std::int64_t image, PositionMap& map) {
  const MatrixStrides& strides = warp.matrix_strides;
  const auto* const m = static_cast<const Number*>(warp.matrices) + image * strides.image;
  return set_line(m, strides.column, warp, map.x) &&
         set_line(m + strides.row, strides.column, warp, map.y);
}

STROP_INLINE PositionMap position_map(const Warp& warp, std::int64_t image) {
  PositionMap map = {{0, 0, 0}, {0, 0, 0}, warp.in_height > 0 && warp.in_width > 0};
  if (warp.matrices == nullptr) {
    map.x = spread_line(warp.in_width, warp.out_width, true);
    map.y = spread_line(warp.in_height, warp.out_height, false);
    return map;
  }
  const bool wide = warp.matrix_dtype == DType::kFloat64;
  map.near =
      map.near && (wide ? set_lines<double>(warp, image, map) : set_lines<float>(warp, image, map));
  return map;
}

// Whether a position may be read at all: kHardConstant's rule.
STROP_INLINE bool inside(std::int64_t position, std::int64_t pixels) {
  return position >= 0 && position <= (pixels - 1) * kOnePixel;
}

// The position that is read in place of this one: within [0, n-1], or, where taps outside have a
// value of their own, up to a pixel outside: kConstant [-1, n], kGridWrap [0, n).
STROP_INLINE std::int64_t position_within(FillMode mode, std::int64_t position,
                                          std::int64_t pixels) {
  const std::int64_t last = (pixels - 1) * kOnePixel, all = pixels * kOnePixel;
  std::int64_t p = position;
  switch (mode) {
    case FillMode::kConstant:
      return p < -kOnePixel ? -kOnePixel : p > all ? all : p;
    case FillMode::kReflect:
      p += kOnePixel / 2;
      p = (p < 0 ? -p : p) % (2 * all);
      p = (p > all ? 2 * all - p : p) - kOnePixel / 2;
      break;
    case FillMode::kMirror:
      if (last == 0) return 0;
      p = (p < 0 ? -p : p) % (2 * last);
      return p > last ? 2 * last - p : p;
    case FillMode::kWrap:
      if (last == 0) return 0;
      if (p < 0) return p + last * (-p / last + 1);
      return p > last ? p - last * (p / last) : p;
    case FillMode::kGridWrap:
      p %= all;
      return p < 0 ? p + all : p;
    default:
      break;
  }
  return p < 0 ? 0 : p > last ? last : p;
}

// A tap of a position within: kConstant gives -1 and n for what lies outside.
STROP_INLINE std::int64_t tap_of(FillMode mode, std::int64_t index, std::int64_t pixels) {
  if (mode == FillMode::kConstant) return index > pixels ? pixels : index;
  if (mode == FillMode::kGridWrap) return index >= pixels ? index - pixels : index;
  return index >= pixels ? pixels - 1 : index;
}

}  // namespace strop::augment
