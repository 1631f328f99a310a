#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>

#include "augment/images.h"

namespace strop::augment::reference {

// Where a warp reads: the specification's "Positions" and "Fill modes", one pixel at a time.

using Integer = std::int64_t;

struct Pixel {
  Integer row;
  Integer column;
};

struct Fraction {
  int units;  // of 2^-15
};

// Upper left, upper right, lower left, lower right; none: fill.
struct Taps {
  std::optional<Pixel> at[4];
  Fraction x;
  Fraction y;
};

inline Integer floor_divide(Integer a, Integer b) {
  const Integer quotient = a / b;
  return quotient * b > a ? quotient - 1 : quotient;
}

// u(m) of the three entries of a line.
struct Line {
  Integer by_column;
  Integer by_row;
  Integer start;
};

inline Integer units(double m) { return std::llrint(std::ldexp(m, 32)); }

// An entry of a matrix as float32 has it.
inline float entry_of(const Warp& warp, Integer at) {
  if (warp.matrix_dtype == DType::kFloat32) return static_cast<const float*>(warp.matrices)[at];
  return static_cast<float>(static_cast<const double*>(warp.matrices)[at]);
}

// Nothing where the line leads too far.
inline std::optional<Line> matrix_line(const Warp& warp, Integer image, Integer row) {
  double m[3];
  for (Integer i = 0; i < 3; ++i) {
    const MatrixStrides& s = warp.matrix_strides;
    m[i] = entry_of(warp, image * s.image + row * s.row + i * s.column);
    if (!(std::abs(m[i]) <= std::ldexp(1, 24))) return std::nullopt;
  }
  const double reach = std::abs(m[0]) * static_cast<double>(warp.out_width - 1) +
                       std::abs(m[1]) * static_cast<double>(warp.out_height - 1) + std::abs(m[2]);
  if (reach > std::ldexp(1, 29)) return std::nullopt;
  return Line{units(m[0]), units(m[1]), units(m[2])};
}

inline std::optional<Line> line_of(const Warp& warp, Integer image, bool is_y) {
  if (warp.in_height == 0 || warp.in_width == 0) return std::nullopt;
  if (warp.matrices != nullptr) return matrix_line(warp, image, is_y ? 1 : 0);
  const double in = static_cast<double>(is_y ? warp.in_height : warp.in_width);
  const double ratio = in / static_cast<double>(is_y ? warp.out_height : warp.out_width);
  const Integer step = units(ratio), start = units((ratio - 1) / 2);
  return is_y ? Line{0, step, start} : Line{step, 0, start};
}

inline Integer position(const Line& line, Pixel pixel) {
  const Integer block = pixel.column / 16 * 16, k = pixel.column % 16, half = 1 << 16;
  const Integer start = line.by_column * block + line.by_row * pixel.row + line.start;
  return floor_divide(start + half, 1 << 17) + floor_divide(line.by_column * k + half, 1 << 17);
}

inline constexpr Integer kOne = 1 << 15;  // a pixel

inline Integer clamped(Integer p, Integer low, Integer high) {
  return p < low ? low : p > high ? high : p;
}

inline Integer modulo(Integer p, Integer n) { return p - n * floor_divide(p, n); }

// The position within the image that a fill mode reads for p; nothing: fill.
inline std::optional<Integer> within(FillMode mode, Integer p, Integer n) {
  const Integer s = (n - 1) * kOne;
  switch (mode) {
    case FillMode::kConstant:
      return clamped(p, -kOne, n * kOne);
    case FillMode::kHardConstant:
      if (p < 0 || p > s) return std::nullopt;
      return p;
    case FillMode::kNearest:
      return clamped(p, 0, s);
    case FillMode::kReflect: {
      const Integer q = modulo(std::abs(p + kOne / 2), 2 * n * kOne);
      return clamped(std::min(q, 2 * n * kOne - q) - kOne / 2, 0, s);
    }
    case FillMode::kMirror: {
      if (n == 1) return 0;
      const Integer q = modulo(std::abs(p), 2 * s);
      return std::min(q, 2 * s - q);
    }
    case FillMode::kWrap:
      if (n == 1) return 0;
      if (p < 0) return p + s * (floor_divide(-p, s) + 1);
      return p > s ? p - s * floor_divide(p, s) : p;
    default:
      return modulo(p, n * kOne);
  }
}

// The pixel that a tap reads in one direction.
inline std::optional<Integer> tap(FillMode mode, Integer t, Integer n) {
  if (mode == FillMode::kGridWrap) return t % n;
  if (t >= 0 && t < n) return t;
  return std::nullopt;
}

inline Taps taps_at(const Warp& warp, const Line& x, const Line& y, Pixel pixel) {
  Taps taps = {};
  const std::optional<Integer> px = within(warp.fill_mode, position(x, pixel), warp.in_width);
  const std::optional<Integer> py = within(warp.fill_mode, position(y, pixel), warp.in_height);
  if (!px || !py) return taps;
  Integer left = floor_divide(*px, kOne), upper = floor_divide(*py, kOne);
  if (warp.interpolation == Interpolation::kNearest) {
    left = floor_divide(*px + kOne / 2, kOne);
    upper = floor_divide(*py + kOne / 2, kOne);
  } else {
    taps.x.units = static_cast<int>(*px - left * kOne);
    taps.y.units = static_cast<int>(*py - upper * kOne);
  }
  for (int i = 0; i < 4; ++i) {
    const std::optional<Integer> column = tap(warp.fill_mode, left + i % 2, warp.in_width);
    const std::optional<Integer> row = tap(warp.fill_mode, upper + i / 2, warp.in_height);
    if (row && column) taps.at[i] = Pixel{*row, *column};
  }
  return taps;
}

// Calls function(image, pixel of the output, taps), image by image, row by row.
template <class Function>
void for_each_pixel(const Warp& warp, Function function) {
  for (Integer image = 0; image < warp.batch; ++image) {
    const std::optional<Line> x = line_of(warp, image, false), y = line_of(warp, image, true);
    for (Integer row = 0; row < warp.out_height; ++row) {
      for (Integer column = 0; column < warp.out_width; ++column) {
        const Pixel pixel = {row, column};
        function(image, pixel, x && y ? taps_at(warp, *x, *y, pixel) : Taps{});
      }
    }
  }
}

}  // namespace strop::augment::reference
