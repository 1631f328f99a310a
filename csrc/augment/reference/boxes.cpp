#include "augment/boxes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "augment/reference/items.h"

namespace strop::augment::reference {
namespace {

using Polygon = std::vector<Point>;  // convex

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;

  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

Range range_of(const Polygon& polygon, double Point::* axis) {
  Range range;
  for (const Point& p : polygon) range.include(p.*axis);
  return range;
}

// The side of a line on which sign * (p.axis - bound) is not negative (Sutherland and Hodgman).
Polygon half(const Polygon& polygon, double Point::* axis, double bound, double sign) {
  Polygon left;
  for (std::size_t i = 0; i < polygon.size(); ++i) {
    const Point p = polygon[i], q = polygon[(i + 1) % polygon.size()];
    const double before = sign * (p.*axis - bound), after = sign * (q.*axis - bound);
    if (before >= 0) left.push_back(p);
    if ((before < 0) == (after < 0)) continue;
    const double share = before / (before - after);
    left.push_back({p.x + (q.x - p.x) * share, p.y + (q.y - p.y) * share});
  }
  return left;
}

// What lies between 0 and a limit.
Polygon clipped(const Polygon& polygon, double Point::* axis, double limit) {
  return half(half(polygon, axis, 0, 1), axis, limit, -1);
}

double area_of(const Polygon& polygon) {
  double twice = 0;
  for (std::size_t i = 0; i < polygon.size(); ++i) {
    const Point p = polygon[i], q = polygon[(i + 1) % polygon.size()];
    twice += p.x * q.y - q.x * p.y;
  }
  return std::abs(twice) / 2;
}

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;

  bool has_area() const { return right > left && bottom > top; }
  // Clockwise from the upper left one.
  Polygon corners() const { return {{left, top}, {right, top}, {right, bottom}, {left, bottom}}; }
};

struct Moved {
  Box box;
  double visible = 0;
};

// Corners through a matrix or back, from pixels' edges to pixels' edges.
template <class Function>
Polygon mapped(const Box& box, Function function) {
  Polygon result;
  for (const Point& p : box.corners()) {
    const Point q = function({p.x - 0.5, p.y - 0.5});
    result.push_back({q.x + 0.5, q.y + 0.5});
  }
  return result;
}

// Cut where the output shows nothing that is near.
Box near(const Box& box, const Box& output, const Matrix& matrix) {
  const Polygon shown = mapped(output, [&](Point p) { return matrix.there(p); });
  const auto cut = [&](double Point::* axis, double& from, double& to) {
    const Range range = range_of(shown, axis);
    const double margin = std::ldexp(range.high - range.low + 1, 20);
    from = std::clamp(from, range.low - margin, range.high + margin);
    to = std::clamp(to, range.low - margin, range.high + margin);
  };
  Box result = box;
  cut(&Point::x, result.left, result.right);
  cut(&Point::y, result.top, result.bottom);
  return result;
}

// The range along one axis of what is in the output along the other.
Range extent(const Polygon& shape, double Point::* axis, double limit, double Point::* other,
             double other_limit) {
  const Polygon part = clipped(shape, other, other_limit);
  const Range range = range_of(part.empty() ? shape : part, axis);
  return {std::clamp(range.low, 0.0, limit), std::clamp(range.high, 0.0, limit)};
}

Moved move(const Box& box, const Box& output, const Matrix& matrix) {
  const Polygon shape = mapped(near(box, output, matrix), [&](Point p) { return matrix.back(p); });
  const Range x = extent(shape, &Point::x, output.right, &Point::y, output.bottom);
  const Range y = extent(shape, &Point::y, output.bottom, &Point::x, output.right);
  Moved moved = {.box = {x.low, y.low, x.high, y.high}};
  const double whole =
      (box.right - box.left) * (box.bottom - box.top) / std::abs(matrix.determinant());
  if (!moved.box.has_area() || !(whole > 0)) return moved;
  const Polygon part = clipped(clipped(shape, &Point::x, output.right), &Point::y, output.bottom);
  moved.visible = std::min(area_of(part) / whole, 1.0);
  return moved;
}

}  // namespace
}  // namespace strop::augment::reference

namespace strop::augment {

void run(const WarpBoxesArgs& args, Oracle) {
  using namespace reference;
  const WarpedItems& boxes = args.boxes;
  const Box output = {.right = args.width, .bottom = args.height};
  for (std::int64_t i = 0; i < boxes.samples * boxes.count; ++i) {
    const std::int64_t sample = i / boxes.count, item = i % boxes.count;
    const auto side = [&](int number) { return coordinate(boxes, sample, item, number); };
    const Box box = {side(0), side(1), side(2), side(3)};
    const std::optional<Matrix> matrix = matrix_of(boxes, sample);
    Moved moved;
    if (matrix && box.has_area()) moved = move(box, output, *matrix);
    const double sides[] = {moved.box.left, moved.box.top, moved.box.right, moved.box.bottom};
    for (int k = 0; k < 4; ++k) store(boxes, args.out, 4 * i + k, sides[k]);
    if (args.visible != nullptr) store(boxes, args.visible, i, moved.visible);
  }
}

}  // namespace strop::augment
