#pragma once

#include <cmath>

#include "augment/images.h"

namespace strop::augment {

// The way back through one matrix; the identity where there is none, and it is not known.
struct InverseWarp {
  double a = 1, b = 0, e = 0, c = 0, d = 1, f = 0;
  bool known = false;

  // By the matrix of a sample, of type M.
  template <class M>
  static InverseWarp of(const void* matrices, const MatrixStrides& s, std::int64_t sample) {
    const M* m = static_cast<const M*>(matrices) + sample * s.image;
    const auto at = [&](int row, int column) -> double {
      return m[row * s.row + column * s.column];
    };
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

}  // namespace strop::augment
