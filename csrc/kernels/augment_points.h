#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/tensor_view.h"

namespace strop {

// warp_points for float32 and float64: what moves with the content of a warped image.
//
//   matrices [B or 1, 2, 3]   output pixel to input pixel, M = [A | t], in index coordinates
//   points   [B, N, 2]        (x, y) becomes A^-1 ((x, y) - t)
//
// In float64 whatever the dtype, rounded once, and to the bit what the composite of torch's ops in
// python/strop/_augment_points.py gives: this is its shorter way on the CPU, where each of torch's
// ops costs more than a small batch's work.
//
// Without an inverse a point becomes NaN, and so does one that is not finite.
// The output is contiguous and overlaps nothing; everything else has any strides.

// The way back through one matrix; the identity where there is none, and it is not known.
struct InverseWarp {
  double a = 1, b = 0, e = 0, c = 0, d = 1, f = 0;
  bool known = false;

  template <class M>
  static InverseWarp of(const TensorView& matrices, std::int64_t sample) {
    const std::int64_t *s = matrices.stride, n = matrices.shape[0] == 1 ? 0 : sample;
    const M* m = static_cast<const M*>(matrices.data) + n * s[0];
    const auto at = [&](int row, int column) -> double { return m[row * s[1] + column * s[2]]; };
    const InverseWarp warp = {at(0, 0), at(0, 1), at(0, 2), at(1, 0), at(1, 1), at(1, 2), true};
    return warp.has_inverse() ? warp : InverseWarp{};
  }

  // What is larger, or a smaller determinant, would leave float64 on the way.
  bool has_inverse() const {
    for (const double entry : {a, b, e, c, d, f}) {
      if (!(std::abs(entry) <= 0x1p100)) return false;
    }
    return std::abs(a * d - b * c) >= 0x1p-500;
  }
  double scale() const { return 1 / (a * d - b * c); }
  double x(double from_x, double from_y) const { return d * (from_x - e) - b * (from_y - f); }
  double y(double from_x, double from_y) const { return a * (from_y - f) - c * (from_x - e); }
};

// Which samples, of all.
struct SampleRange {
  std::int64_t begin, end;
};

template <class T, class M>
void warp_points(const TensorView& points, const TensorView& matrices, SampleRange range,
                 T* output) {
  const std::int64_t* s = points.stride;
  output += range.begin * points.shape[1] * 2;
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const InverseWarp warp = InverseWarp::of<M>(matrices, i);
    const double scale = warp.scale();
    for (std::int64_t j = 0; j < points.shape[1]; ++j, output += 2) {
      const T* from = static_cast<const T*>(points.data) + i * s[0] + j * s[1];
      const double x = from[0], y = from[s[2]];
      const bool known = warp.known && std::isfinite(x) && std::isfinite(y);
      constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
      output[0] = static_cast<T>(known ? warp.x(x, y) * scale : kNan);
      output[1] = static_cast<T>(known ? warp.y(x, y) * scale : kNan);
    }
  }
}

}  // namespace strop
