#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/tensor_view.h"

namespace strop {

// warp_points and warp_boxes for float32 and float64: what moves with the content of a warped
// image.
//
//   matrices [B or 1, 2, 3]   output pixel to input pixel, M = [A | t], in index coordinates
//   points   [B, N, 2]        (x, y) becomes A^-1 ((x, y) - t)
//   boxes    [B, N, 4]        xyxy at the edges of pixels; the clipped box around the moved corners
//
// In float64 whatever the dtype, rounded once, and to the bit what the composites of torch's ops in
// python/strop/_augment_points.py give: these are their shorter way on the CPU, where each of
// torch's ops costs more than a small batch's work.
//
// Without an inverse a point becomes NaN. Of a box without area every side becomes 0, and so does a
// side that would be NaN.
// The output is contiguous and overlaps nothing; everything else has any strides.

// The way back through one matrix.
struct InverseWarp {
  double a, b, e, c, d, f;

  template <class M>
  static InverseWarp of(const TensorView& matrices, std::int64_t sample) {
    const std::int64_t *s = matrices.stride, n = matrices.shape[0] == 1 ? 0 : sample;
    const M* m = static_cast<const M*>(matrices.data) + n * s[0];
    const auto at = [&](int row, int column) -> double { return m[row * s[1] + column * s[2]]; };
    return {at(0, 0), at(0, 1), at(0, 2), at(1, 0), at(1, 1), at(1, 2)};
  }

  // NaN for zero: see _reciprocal in python/strop/_augment_points.py.
  double scale() const {
    const double determinant = a * d - b * c;
    return determinant / determinant / determinant;
  }
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
      output[0] = static_cast<T>(warp.x(x, y) * scale);
      output[1] = static_cast<T>(warp.y(x, y) * scale);
    }
  }
}

// The size of the output, to which boxes are clipped.
struct WarpedSize {
  double height, width;
};

// One box of float64: left, top, right, bottom.
struct WarpedBox {
  double side[4];

  WarpedBox moved(const InverseWarp& warp, double scale, const WarpedSize& size) const {
    if (!(side[2] > side[0] && side[3] > side[1])) return {};
    WarpedBox box = {{size.width, size.height, 0, 0}};
    bool known[] = {true, true};
    for (int corner = 0; corner < 4; ++corner) {
      const double from_x = side[corner & 1 ? 2 : 0] - 0.5, from_y = side[corner & 2 ? 3 : 1] - 0.5;
      const double to[] = {warp.x(from_x, from_y) * scale + 0.5,
                           warp.y(from_x, from_y) * scale + 0.5};
      const double limit[] = {size.width, size.height};
      for (int axis = 0; axis < 2; ++axis) {
        known[axis] = known[axis] && !std::isnan(to[axis]);
        box.side[axis] = std::min(box.side[axis], std::max(to[axis], 0.0));
        box.side[axis + 2] = std::max(box.side[axis + 2], std::min(to[axis], limit[axis]));
      }
    }
    for (int axis = 0; axis < 2; ++axis) {
      if (!known[axis]) box.side[axis] = box.side[axis + 2] = 0;
    }
    return box;
  }
};

template <class T, class M>
void warp_boxes(const TensorView& boxes, const TensorView& matrices, WarpedSize size,
                SampleRange range, T* output) {
  const std::int64_t* s = boxes.stride;
  output += range.begin * boxes.shape[1] * 4;
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    const InverseWarp warp = InverseWarp::of<M>(matrices, i);
    const double scale = warp.scale();
    for (std::int64_t j = 0; j < boxes.shape[1]; ++j, output += 4) {
      const T* from = static_cast<const T*>(boxes.data) + i * s[0] + j * s[1];
      const WarpedBox box = {{from[0], from[s[2]], from[2 * s[2]], from[3 * s[2]]}};
      const WarpedBox moved = box.moved(warp, scale, size);
      for (int k = 0; k < 4; ++k) output[k] = static_cast<T>(moved.side[k]);
    }
  }
}

}  // namespace strop
