// Tiles of an output, and what they read. Compiled once: no instruction set's code.

#include <algorithm>
#include <cmath>

#include "augment/kernels.h"

namespace strop::augment {
namespace {

// Positions, both ends included.
struct Range {
  std::int64_t low;
  std::int64_t high;
};

constexpr std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}

constexpr std::int64_t round_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b * b; }

// What a line passes in a tile, and in the columns that vectors go beyond it. Rounding may put the
// end of a block a unit beyond the beginning of the next.
Range passed(const PositionLine& line, const OutTile& out) {
  const std::int64_t last = round_up(out.column_end, kMaxUnit) - 1;
  Range range = {line.at(out.row, out.column), line.at(out.row, out.column)};
  for (const std::int64_t row : {out.row, out.row_end - 1}) {
    for (const std::int64_t column : {out.column, last}) {
      const std::int64_t p = line.at(row, column);
      range = {std::min(range.low, p), std::max(range.high, p)};
    }
  }
  return {range.low - 2, range.high + 2};
}

// Where the positions of a range come to lie within the image, or more than that.
Range within(FillMode mode, Range r, std::int64_t pixels) {
  const std::int64_t last = (pixels - 1) * kOnePixel, all = pixels * kOnePixel;
  const Range whole = {0, mode == FillMode::kGridWrap ? all - 1 : last};
  const Range ends = {position_within(mode, r.low, pixels), position_within(mode, r.high, pixels)};
  const Range sorted = {std::min(ends.low, ends.high), std::max(ends.low, ends.high)};
  const bool folds = mode == FillMode::kReflect || mode == FillMode::kMirror;
  const bool wraps = mode == FillMode::kWrap || mode == FillMode::kGridWrap;
  if (!folds && !wraps) return sorted;
  if (r.low >= 0 && r.high <= last) return r;
  const std::int64_t period =
      mode == FillMode::kReflect || mode == FillMode::kGridWrap ? all : last;
  if (period == 0) return whole;
  const std::int64_t shift = mode == FillMode::kReflect ? kOnePixel / 2 : 0;
  const std::int64_t first_fold = floor_divide(r.low + shift, period);
  const std::int64_t last_fold = floor_divide(r.high + shift, period);
  if (wraps) {
    // (kWrap has its period's ends at both ends of the image)
    const bool at_end = r.low % period == 0 || r.high % period == 0;
    return first_fold == last_fold && !at_end ? sorted : whole;
  }
  if (first_fold == last_fold) return sorted;
  if (last_fold - first_fold > 1) return whole;
  return last_fold % 2 == 0 ? Range{0, sorted.high} : Range{sorted.low, last};
}

// How many pixels of the input a tile passes at most, in one direction.
double most_passed(const PositionLine& line, double rows, double columns, std::int64_t pixels) {
  const double steps = std::abs(static_cast<double>(line.by_column)) * columns +
                       std::abs(static_cast<double>(line.by_row)) * rows;
  return std::min(steps * 0x1p-32, static_cast<double>(pixels)) + 4;
}

bool is_whole(const PositionLine& line) { return (line.start & 0xffffffff) == 0; }

bool is_step(std::int64_t step) {
  return step == std::int64_t{1} << 32 || step == -(std::int64_t{1} << 32);
}

}  // namespace

bool is_copy(const PositionMap& map) {
  return is_step(map.x.by_column) && map.x.by_row == 0 && is_whole(map.x) && map.y.by_column == 0 &&
         is_step(map.y.by_row) && is_whole(map.y);
}

Tiling tiling_of(const Warp& warp, const PositionMap& map, std::int64_t pixel_bytes) {
  Tiling shape = {warp.out_height,
                  std::min<std::int64_t>(round_up(warp.out_width, kMaxUnit), kMaxTileColumns),
                  TileMethod::kBox};
  if (!map.near) return {shape.rows, shape.columns, TileMethod::kFill};
  if (is_copy(map)) return {shape.rows, shape.columns, TileMethod::kCopy};
  for (;;) {
    const auto rows = static_cast<double>(shape.rows), columns = static_cast<double>(shape.columns);
    const double width = most_passed(map.x, rows, columns, warp.in_width);
    const double height = most_passed(map.y, rows, columns, warp.in_height);
    const double pixels = width * height;
    if (height <= kMaxBoxRows && width <= kMaxBoxColumns &&
        pixels * static_cast<double>(pixel_bytes) <= kScratchPixels) {
      if (pixels > kMaxBoxShare * rows * columns) shape.method = TileMethod::kDirect;
      return shape;
    }
    if (shape.rows > 1 && (shape.rows > shape.columns || shape.columns == kMaxUnit)) {
      shape.rows = (shape.rows + 1) / 2;
    } else if (shape.columns > kMaxUnit) {
      shape.columns = round_up((shape.columns + 1) / 2, kMaxUnit);
    } else {
      return {warp.out_height, kMaxTileColumns, TileMethod::kDirect};
    }
  }
}

InBox box_of(const Warp& warp, const PositionMap& map, const OutTile& out) {
  const Range x = within(warp.fill_mode, passed(map.x, out), warp.in_width);
  const Range y = within(warp.fill_mode, passed(map.y, out), warp.in_height);
  InBox box = {floor_divide(y.low, kOnePixel), floor_divide(x.low, kOnePixel), 0, 0};
  box.rows = floor_divide(y.high, kOnePixel) + 2 - box.row;
  box.columns = floor_divide(x.high, kOnePixel) + 2 - box.column;
  return box;
}

bool is_outside(const Warp& warp, const PositionMap& map, const OutTile& out) {
  const bool constant = warp.fill_mode == FillMode::kConstant;
  if (!constant && warp.fill_mode != FillMode::kHardConstant) return false;
  const std::int64_t around = constant ? kOnePixel - 1 : 0;
  const auto misses = [&](const PositionLine& line, std::int64_t pixels) {
    const Range r = passed(line, out);
    return r.high < -around || r.low > (pixels - 1) * kOnePixel + around;
  };
  return misses(map.x, warp.in_width) || misses(map.y, warp.in_height);
}

}  // namespace strop::augment
