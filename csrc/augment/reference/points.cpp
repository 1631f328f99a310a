#include <cmath>
#include <limits>

#include "augment/reference/items.h"

namespace strop::augment::reference {
namespace {

double number_at(const void* data, DType dtype, std::int64_t at) {
  if (dtype == DType::kFloat32) return static_cast<const float*>(data)[at];
  return static_cast<const double*>(data)[at];
}

}  // namespace

Point Matrix::back(Point p) const {
  const double x = p.x - e, y = p.y - f, scale = 1 / determinant();
  return {(d * x - b * y) * scale, (a * y - c * x) * scale};
}

std::optional<Matrix> matrix_of(const WarpedItems& items, std::int64_t sample) {
  double entry[6];
  for (int i = 0; i < 6; ++i) {
    const MatrixStrides& s = items.matrix_strides;
    const std::int64_t at = sample * s.image + i / 3 * s.row + i % 3 * s.column;
    entry[i] = number_at(items.matrices, items.matrix_dtype, at);
    if (!(std::abs(entry[i]) <= std::ldexp(1, 100))) return std::nullopt;
  }
  const Matrix matrix = {entry[0], entry[1], entry[2], entry[3], entry[4], entry[5]};
  if (std::abs(matrix.determinant()) < std::ldexp(1, -500)) return std::nullopt;
  return matrix;
}

double coordinate(const WarpedItems& items, std::int64_t sample, std::int64_t item, int number) {
  const std::int64_t* s = items.stride;
  return number_at(items.items, items.dtype, sample * s[0] + item * s[1] + number * s[2]);
}

void store(const WarpedItems& items, void* out, std::int64_t at, double value) {
  if (items.dtype == DType::kFloat32) {
    static_cast<float*>(out)[at] = static_cast<float>(value);
  } else {
    static_cast<double*>(out)[at] = value;
  }
}

}  // namespace strop::augment::reference

namespace strop::augment {

void run(const WarpPointsArgs& args, Oracle) {
  using namespace reference;
  const WarpedItems& points = args.points;
  for (std::int64_t i = 0; i < points.samples * points.count; ++i) {
    const std::int64_t sample = i / points.count, item = i % points.count;
    const std::optional<Matrix> matrix = matrix_of(points, sample);
    const Point from = {coordinate(points, sample, item, 0), coordinate(points, sample, item, 1)};
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    Point to = {kNan, kNan};
    if (matrix && std::isfinite(from.x) && std::isfinite(from.y)) to = matrix->back(from);
    store(points, args.out, 2 * i, to.x);
    store(points, args.out, 2 * i + 1, to.y);
  }
}

}  // namespace strop::augment
