#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "augment/inverse_warp.h"

namespace strop::augment {

// What becomes of a box under a warp: see augment/boxes.h.

// The size of the output, to which boxes are clipped.
struct WarpedSize {
  double height, width;
};

using Corners = std::array<double, 4>;

inline double clamped(double value, double low, double high) {
  return std::min(std::max(value, low), high);
}

// An edge of a shape along one axis, from corner to corner.
struct BoxEdge {
  double from, to;

  double step() const { return to - from; }
  // A point of it, exact at both ends.
  double at(double t) const { return t < 0.5 ? from + t * step() : to - (1 - t) * step(); }
  bool meets(double limit) const { return std::min(from, to) <= limit && std::max(from, to) >= 0; }
};

inline BoxEdge edge_of(const Corners& corners, std::size_t i) {
  return {corners[i], corners[(i + 1) % 4]};
}

// Where an edge comes to and leaves [0, limit], 0 to 1 along it; all of one that runs along it.
struct Crossing {
  double begin = 0, end = 1;

  static Crossing of(const BoxEdge& edge, double limit) {
    const double step = edge.step();
    if (step == 0) return {};
    const double first = -edge.from / step, second = (limit - edge.from) / step;
    return {clamped(std::min(first, second), 0, 1), clamped(std::max(first, second), 0, 1)};
  }
};

struct BoxSpan {
  double low, high;
};

inline BoxSpan whole_span(const Corners& along) {
  const auto [low, high] = std::minmax_element(along.begin(), along.end());
  return {*low, *high};
}

// The range along one axis of what of a shape is in the output: that of its edges between the
// output's sides on the other axis, clipped; of the whole shape where none is.
inline BoxSpan visible_span(const Corners& along, const Corners& across, double limit,
                            double across_limit) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  BoxSpan span = {kInfinity, -kInfinity};
  for (std::size_t i = 0; i < 4; ++i) {
    const BoxEdge edge = edge_of(along, i), other = edge_of(across, i);
    if (!other.meets(across_limit)) continue;
    const Crossing crossing = Crossing::of(other, across_limit);
    for (const double x : {edge.at(crossing.begin), edge.at(crossing.end)}) {
      span = {std::min(span.low, x), std::max(span.high, x)};
    }
  }
  if (span.low > span.high) span = whole_span(along);
  return {clamped(span.low, 0, limit), clamped(span.high, 0, limit)};
}

// Corners of a box that moved, clockwise from the upper left one.
struct BoxShape {
  Corners x, y;

  bool inside(const WarpedSize& size) const {
    bool all = true;
    for (std::size_t i = 0; i < 4; ++i) {
      all = all && x[i] >= 0 && x[i] <= size.width && y[i] >= 0 && y[i] <= size.height;
    }
    return all;
  }

  // By Green's theorem: x, clipped, over y along the edges between the output's top and bottom, in
  // three straight pieces an edge.
  double clipped_area(const WarpedSize& size) const {
    Corners edges = {};
    for (std::size_t i = 0; i < 4; ++i) {
      const BoxEdge along = edge_of(x, i), across = edge_of(y, i);
      const Crossing rows = Crossing::of(across, size.height);
      const Crossing columns = Crossing::of(along, size.width);
      const Corners stops = {rows.begin, clamped(columns.begin, rows.begin, rows.end),
                             clamped(columns.end, rows.begin, rows.end), rows.end};
      double piece[3];
      for (std::size_t k = 0; k < 3; ++k) {
        const auto at_x = [&](double t) { return clamped(along.at(t), 0, size.width); };
        const auto at_y = [&](double t) { return clamped(across.at(t), 0, size.height); };
        piece[k] = (at_x(stops[k]) + at_x(stops[k + 1])) * (at_y(stops[k + 1]) - at_y(stops[k]));
      }
      edges[i] = piece[0] + piece[1] + piece[2];
    }
    return std::abs((edges[0] + edges[1]) + (edges[2] + edges[3])) / 2;
  }
};

// One box of float64: left, top, right, bottom.
struct WarpedBox {
  double side[4];

  bool has_area() const { return side[2] > side[0] && side[3] > side[1]; }

  double area(double scale) const {
    for (const double s : side) {
      if (!std::isfinite(s)) return std::numeric_limits<double>::infinity();
    }
    return (side[2] - side[0]) * (side[3] - side[1]) * std::abs(scale);
  }

  // Cut far outside of what the output shows, as an infinite one has to be: see FAR in
  // python/strop/_augment/boxes.py.
  WarpedBox near(const InverseWarp& warp, const WarpedSize& size) const {
    const auto cut = [&size](double by_x, double by_y, double shift, double from, double to) {
      const double along[] = {by_x * -0.5, by_x * (size.width - 0.5)};
      const double across[] = {by_y * -0.5, by_y * (size.height - 0.5)};
      const double low =
          std::min(along[0], along[1]) + std::min(across[0], across[1]) + shift + 0.5;
      const double high =
          std::max(along[0], along[1]) + std::max(across[0], across[1]) + shift + 0.5;
      const double margin = 0x1p20 * (high - low + 1);
      return BoxSpan{clamped(from, low - margin, high + margin),
                     clamped(to, low - margin, high + margin)};
    };
    const BoxSpan columns = cut(warp.a, warp.b, warp.e, side[0], side[2]);
    const BoxSpan rows = cut(warp.c, warp.d, warp.f, side[1], side[3]);
    return {{columns.low, rows.low, columns.high, rows.high}};
  }

  BoxShape moved(const InverseWarp& warp, double scale) const {
    BoxShape shape;
    for (std::size_t i = 0; i < 4; ++i) {
      const double from_x = side[i == 1 || i == 2 ? 2 : 0] - 0.5,
                   from_y = side[i < 2 ? 1 : 3] - 0.5;
      shape.x[i] = warp.x(from_x, from_y) * scale + 0.5;
      shape.y[i] = warp.y(from_x, from_y) * scale + 0.5;
    }
    return shape;
  }
};

// What becomes of one box; `visible` is the share of its area that is in the output, where wanted.
inline WarpedBox warped_box(const WarpedBox& box, const InverseWarp& warp, const WarpedSize& size,
                            double* visible) {
  if (visible != nullptr) *visible = 0;
  if (!warp.known || !box.has_area()) return {};
  const double scale = warp.scale();
  const BoxShape shape = box.near(warp, size).moved(warp, scale);
  const bool inside = shape.inside(size);  // then nothing is cut
  const BoxSpan columns =
      inside ? whole_span(shape.x) : visible_span(shape.x, shape.y, size.width, size.height);
  const BoxSpan rows =
      inside ? whole_span(shape.y) : visible_span(shape.y, shape.x, size.height, size.width);
  const WarpedBox result = {{columns.low, rows.low, columns.high, rows.high}};
  const double area = box.area(scale);
  if (visible != nullptr && result.has_area() && area > 0) {
    *visible = inside ? 1 : clamped(shape.clipped_area(size) / area, 0, 1);
  }
  return result;
}

}  // namespace strop::augment
