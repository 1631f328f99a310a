#pragma once

#include "cpu/augment.h"
#include "cpu/augment_vector.h"
#include "cpu/unroll.h"

// The loop "locate": where the taps of a row lie in a box. See Note [Warping on a CPU].

namespace strop::cpu::STROP_ISA {

inline constexpr int kBlockVectors = kPositionBlock / kLanes;
// Vectors hold positions in 16.16, as far as that goes.
inline constexpr std::int64_t kVectorReach = kOnePixel << 14;

// One coordinate within a block of columns, and where the image ends.
struct BlockSteps {
  I32 step[kBlockVectors];  // 16.16
  std::int64_t low, high;   // positions within a block, from its start
  std::int64_t last, all;   // positions of the last pixel, and of the one after it
  std::int64_t origin;      // position of the box's first pixel
  bool fits;                // whether vectors hold them

  STROP_MEMBER bool inside(std::int64_t start) const {
    return start + low >= 0 && start + high <= last;
  }
  STROP_MEMBER bool misses(std::int64_t start, std::int64_t around) const {
    return start + high < -around || start + low > last + around;
  }
  STROP_MEMBER bool within_reach(std::int64_t start) const {
    return fits && start + low > -kVectorReach && start + high < kVectorReach;
  }
};

STROP_INLINE BlockSteps block_steps(const PositionLine& line, std::int64_t pixels,
                                    std::int64_t out_width, std::int64_t origin) {
  BlockSteps s;
  s.last = (pixels - 1) * kOnePixel;
  s.all = pixels * kOnePixel;
  s.origin = origin * kOnePixel;
  const int most = static_cast<int>(out_width < kPositionBlock ? out_width : kPositionBlock) - 1;
  const std::int64_t end = line.step(most);
  s.low = end < 0 ? end : 0;
  s.high = end < 0 ? 0 : end;
  s.fits = s.high - s.low < kVectorReach && s.all <= kVectorReach;
  std::int32_t steps[kPositionBlock] = {};
  for (int k = 0; s.fits && k < kPositionBlock; ++k) {
    steps[k] = static_cast<std::int32_t>(2 * line.step(k < most ? k : most));
  }
  for (int i = 0; i < kBlockVectors; ++i) s.step[i] = load_unaligned<I32>(steps + i * kLanes);
  return s;
}

// position_within for a vector, of positions that are at most one period outside.
STROP_INLINE bool one_period_away(FillMode mode, const BlockSteps& s, std::int64_t start) {
  const std::int64_t low = start + s.low, high = start + s.high;
  switch (mode) {
    case FillMode::kReflect:
      return low > -2 * s.all + kOnePixel && high < 2 * s.all - kOnePixel;
    case FillMode::kMirror:
      return low > -2 * s.last && high < 2 * s.last;
    case FillMode::kWrap:
      return low > -s.last && high < 2 * s.last;
    case FillMode::kGridWrap:
      return low >= -s.all && high < 2 * s.all;
    default:
      return true;
  }
}

STROP_INLINE I32 magnitude(I32 v) { return larger(v, -v); }
STROP_INLINE I32 clamped(I32 v, std::int32_t low, std::int32_t high) {
  return smaller(larger(v, broadcast(low)), broadcast(high));
}

STROP_INLINE I32 vector_within(FillMode mode, I32 p, const BlockSteps& s) {
  const auto last = static_cast<std::int32_t>(s.last), all = static_cast<std::int32_t>(s.all);
  constexpr auto kOne = static_cast<std::int32_t>(kOnePixel);
  switch (mode) {
    case FillMode::kConstant:
      return clamped(p, -kOne, all);
    case FillMode::kReflect: {
      const I32 q = magnitude(p + kOne / 2);
      return clamped(smaller(q, 2 * all - q) - kOne / 2, 0, last);
    }
    case FillMode::kMirror: {
      const I32 q = magnitude(p);
      return smaller(q, 2 * last - q);
    }
    case FillMode::kWrap:
      return p + (I32(p < 0) & last) - (I32(p > last) & last);
    case FillMode::kGridWrap:
      return p + (I32(p < 0) & all) - (I32(p >= all) & all);
    default:
      return clamped(p, 0, last);
  }
}

struct Locator;
static void locate_far(const Locator& by, WarpRoom& room, int column, std::int64_t row);

// How a tile's rows are located: what does not change from row to row.
struct Locator {
  FillMode mode;
  const PositionMap* map;
  const OutTile* out;
  BlockSteps x, y;
  I32 scale;           // bytes, or elements, of a column and of a row: 16 bits each
  std::int64_t round;  // of a nearest pixel: half a one
  I32 fraction;        // the bits that are kept of a fraction

  struct Lanes {
    I32 x, y;  // 16.16, from the box's origin
  };

  STROP_MEMBER void store(WarpRoom& room, int column, Lanes at) const {
    constexpr std::int32_t kHigh = static_cast<std::int32_t>(0xffff0000u);
    const I32 row_and_column = (at.y & kHigh) | bit_cast<I32>(bit_cast<U32>(at.x) >> 16);
    store_unaligned(room.offsets + column, products_of_words(row_and_column, scale));
    store_words(room.fractions_x + column, (at.x >> 1) & fraction);
    store_words(room.fractions_y + column, (at.y >> 1) & fraction);
  }

  STROP_MEMBER void locate_inside(WarpRoom& room, int column, std::int64_t x_start,
                                  std::int64_t y_start) const {
    const auto from_x = static_cast<std::int32_t>(2 * (x_start - x.origin + round));
    const auto from_y = static_cast<std::int32_t>(2 * (y_start - y.origin + round));
    for (int i = 0; i < kBlockVectors; ++i) {
      store(room, column + i * kLanes, {x.step[i] + from_x, y.step[i] + from_y});
    }
  }

  STROP_MEMBER void locate_near(WarpRoom& room, int column, std::int64_t x_start,
                                std::int64_t y_start) const {
    const auto from_x = static_cast<std::int32_t>(2 * x_start);
    const auto from_y = static_cast<std::int32_t>(2 * y_start);
    const auto origin_x = static_cast<std::int32_t>(x.origin - round);
    const auto origin_y = static_cast<std::int32_t>(y.origin - round);
    for (int i = 0; i < kBlockVectors; ++i) {
      const I32 px = (x.step[i] + from_x) >> 1, py = (y.step[i] + from_y) >> 1;
      if (mode == FillMode::kHardConstant) {
        const I32 outside = I32(px < 0) | I32(px > static_cast<std::int32_t>(x.last)) |
                            I32(py < 0) | I32(py > static_cast<std::int32_t>(y.last));
        store_words(room.outside + column + i * kLanes, outside);
      }
      const I32 qx = vector_within(mode, px, x) - origin_x;
      const I32 qy = vector_within(mode, py, y) - origin_y;
      store(room, column + i * kLanes, {qx << 1, qy << 1});
    }
  }

  // Locates a row; returns its columns that see the image, from the tile's first on: whole blocks.
  STROP_MEMBER Columns locate(WarpRoom& room, std::int64_t row) const {
    const bool constant = mode == FillMode::kConstant, hard = mode == FillMode::kHardConstant;
    const std::int64_t around = constant ? kOnePixel - 1 : 0;
    Columns seen = {0, 0};
    const auto width = static_cast<int>(out->columns());
    for (int column = 0; column < width; column += kPositionBlock) {
      const std::int64_t number = (out->column + column) / kPositionBlock;
      const std::int64_t x_start = map->x.block(number, row), y_start = map->y.block(number, row);
      const bool inside = x.inside(x_start) && y.inside(y_start);
      if (!inside && (constant || hard) &&
          (x.misses(x_start, around) || y.misses(y_start, around))) {
        if (seen.end > 0) break;
        continue;
      }
      if (seen.end == 0) seen.begin = column;
      seen.end = column + kPositionBlock;
      if (hard) std::memset(room.outside + column, 0, kPositionBlock * sizeof(std::int16_t));
      if (inside) {
        locate_inside(room, column, x_start, y_start);
      } else if (x.within_reach(x_start) && y.within_reach(y_start) &&
                 one_period_away(mode, x, x_start) && one_period_away(mode, y, y_start)) {
        locate_near(room, column, x_start, y_start);
      } else {
        locate_far(*this, room, column, row);
      }
    }
    // Vectors may be longer than blocks.
    for (int i = 0; i < 2 * kLanes; ++i) room.offsets[seen.end + i] = room.offsets[seen.begin];
    return seen;
  }
};

// Position by position: far away, or in images whose positions vectors do not hold.
__attribute__((noinline)) static void locate_far(const Locator& by, WarpRoom& room, int column,
                                                 std::int64_t row) {
  alignas(64) std::int32_t at_x[kPositionBlock], at_y[kPositionBlock];
  for (int k = 0; k < kPositionBlock; ++k) {
    const std::int64_t wanted = by.out->column + column + k;
    const std::int64_t j = wanted < by.out->column_end ? wanted : by.out->column_end - 1;
    const std::int64_t px = by.map->x.at(row, j), py = by.map->y.at(row, j);
    if (by.mode == FillMode::kHardConstant) {
      const bool seen = px >= 0 && px <= by.x.last && py >= 0 && py <= by.y.last;
      room.outside[column + k] = seen ? 0 : -1;
    }
    const auto within = [&](std::int64_t p, const BlockSteps& s) {
      return position_within(by.mode, p, s.all / kOnePixel) - s.origin + by.round;
    };
    at_x[k] = static_cast<std::int32_t>(2 * within(px, by.x));
    at_y[k] = static_cast<std::int32_t>(2 * within(py, by.y));
  }
  for (int i = 0; i < kBlockVectors; ++i) {
    by.store(room, column + i * kLanes,
             {load_unaligned<I32>(at_x + i * kLanes), load_unaligned<I32>(at_y + i * kLanes)});
  }
}

STROP_INLINE Locator locator(const Warp& warp, const WarpTile& tile, int column_scale,
                             int row_scale) {
  const bool nearest = warp.interpolation == Interpolation::kNearest;
  return {.mode = warp.fill_mode,
          .map = &tile.map,
          .out = &tile.out,
          .x = block_steps(tile.map.x, warp.in_width, warp.out_width, tile.box.column),
          .y = block_steps(tile.map.y, warp.in_height, warp.out_width, tile.box.row),
          .scale = broadcast(static_cast<std::int32_t>(row_scale << 16 | column_scale)),
          .round = nearest ? kOnePixel / 2 : 0,
          .fraction = broadcast(std::int32_t{nearest ? 0 : 0x7fff})};
}

}  // namespace strop::cpu::STROP_ISA
