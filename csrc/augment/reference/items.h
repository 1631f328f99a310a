#pragma once

#include <optional>

#include "augment/points.h"

namespace strop::augment::reference {

struct Point {
  double x;
  double y;
};

// A matrix [a b e; c d f], which has an inverse.
struct Matrix {
  double a, b, e, c, d, f;

  double determinant() const { return a * d - b * c; }
  Point there(Point p) const { return {a * p.x + b * p.y + e, c * p.x + d * p.y + f}; }
  Point back(Point p) const;
};

// That of a sample, where it has an inverse.
std::optional<Matrix> matrix_of(const WarpedItems& items, std::int64_t sample);

double coordinate(const WarpedItems& items, std::int64_t sample, std::int64_t item, int number);
// As an element of the items' dtype.
void store(const WarpedItems& items, void* out, std::int64_t at, double value);

}  // namespace strop::augment::reference
