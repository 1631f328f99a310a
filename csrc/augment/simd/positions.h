#pragma once

#include "augment/kernels.h"
#include "core/simd/vector.h"

// The loop "locate": where the taps of a row lie in a box. See Note [Warping on a CPU].

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Note [Order of offsets]
// Positions are computed for even and for odd columns apart. Fractions come together in order;
// offsets stay as they are: of each 2 * kLanes columns, first those of the even ones.
STROP_INLINE int offset_place(int column) { return column % 2 * kLanes + column / 2; }

using W16 = std::uint16_t __attribute__((vector_size(kVectorBytes)));

// Columns that are located at once: whole blocks, and whole vectors of words.
inline constexpr int kUnit = 2 * kLanes > kPositionBlock ? 2 * kLanes : kPositionBlock;
inline constexpr int kUnitBlocks = kUnit / kPositionBlock;
inline constexpr int kUnitPairs = kUnit / (2 * kLanes);
// Vectors hold positions in 16.16, as far as that goes.
inline constexpr std::int64_t kVectorReach = kOnePixel << 14;

// Two vectors that belong to the even and to the odd columns of 2 * kLanes: their low halves make
// a vector of words in order, without a shuffle.
struct EvenOdd {
  I32 even;
  I32 odd;
};

// Where the blocks of a unit start.
struct Starts {
  std::int64_t at[kUnitBlocks];

  STROP_MEMBER std::int64_t least() const {
    return kUnitBlocks == 1 || at[0] < at[kUnitBlocks - 1] ? at[0] : at[kUnitBlocks - 1];
  }
  STROP_MEMBER std::int64_t most() const {
    return kUnitBlocks == 1 || at[0] > at[kUnitBlocks - 1] ? at[0] : at[kUnitBlocks - 1];
  }
  // In 16.16 from an origin, each for the lanes of its block.
  STROP_MEMBER I32 vector(std::int64_t origin) const {
    const auto first = static_cast<std::int32_t>(2 * (at[0] - origin));
    const auto last = static_cast<std::int32_t>(2 * (at[kUnitBlocks - 1] - origin));
    if constexpr (kUnitBlocks == 1) return broadcast(first);
    return bit_cast<I32>(halves(Vec::wrap(bit_cast<F32>(broadcast(first))),
                                Vec::wrap(bit_cast<F32>(broadcast(last))))
                             .v);
  }
};

// One coordinate within a block of columns, and where the image ends.
struct BlockSteps {
  EvenOdd step[kUnitPairs];  // 16.16
  std::int64_t low, high;    // positions within a block, from its start
  std::int64_t last, all;    // positions of the last pixel, and of the one after it
  std::int64_t origin;       // position of the box's first pixel
  std::int64_t by_block;     // from the start of one to that of the next, 32 bits of fraction
  double blocks;             // that a unit of it makes: 1 / |by_block|
  bool fits;                 // whether vectors hold the steps

  STROP_MEMBER bool inside(const Starts& s) const {
    return fits && s.least() + low >= 0 && s.most() + high <= last;
  }
  STROP_MEMBER bool misses(const Starts& s, std::int64_t around) const {
    return s.most() + high < -around || s.least() + low > last + around;
  }
  // Of the blocks from one inside on, which starts at `at`: how many are inside as well, or fewer.
  STROP_MEMBER std::int64_t more_inside(std::int64_t at) const {
    if (by_block == 0) return kMaxTileColumns;
    const std::int64_t end = ((last - high + 1) << 17) - (std::int64_t{1} << 16) - 1;
    const std::int64_t begin = (-low << 17) - (std::int64_t{1} << 16);
    const double left = static_cast<double>(by_block > 0 ? end - at : at - begin) * blocks;
    return left < kMaxTileColumns ? static_cast<std::int64_t>(left) - 1 : kMaxTileColumns;
  }
  STROP_MEMBER bool within_reach(const Starts& s) const {
    return fits && all <= kVectorReach && s.least() + low > -kVectorReach &&
           s.most() + high < kVectorReach;
  }
};

// Of the unit that begins at `at`, by 32 bits of fraction.
STROP_INLINE Starts unit_starts(std::int64_t at, std::int64_t by_block) {
  Starts s;
  for (int i = 0; i < kUnitBlocks; ++i) {
    s.at[i] = rounded_position(at + i * by_block);
  }
  return s;
}
STROP_INLINE std::int64_t unit_at(const PositionLine& line, std::int64_t column, std::int64_t row) {
  return line.by_column * column + line.by_row * row + line.start;
}

STROP_INLINE BlockSteps block_steps(const PositionLine& line, std::int64_t pixels,
                                    std::int64_t origin) {
  BlockSteps s;
  s.last = (pixels - 1) * kOnePixel;
  s.all = pixels * kOnePixel;
  s.origin = origin * kOnePixel;
  s.by_block = line.by_column * kPositionBlock;
  s.blocks = 1 / __builtin_fabs(static_cast<double>(s.by_block));
  const std::int64_t end = line.step(kPositionBlock - 1);
  s.low = end < 0 ? end : 0;
  s.high = end < 0 ? 0 : end;
  s.fits = s.high - s.low < kVectorReach;
  for (int pair = 0; pair < kUnitPairs; ++pair) {
    std::int32_t steps[2][kLanes] = {};
    for (int i = 0; s.fits && i < 2 * kLanes; ++i) {
      const int k = (pair * 2 * kLanes + i) % kPositionBlock;
      steps[i % 2][i / 2] = static_cast<std::int32_t>(2 * line.step(k));
    }
    s.step[pair] = {load_unaligned<I32>(steps[0]), load_unaligned<I32>(steps[1])};
  }
  return s;
}

// position_within for a vector, of positions that are at most one period outside.
STROP_INLINE bool one_period_away(FillMode mode, const BlockSteps& s, const Starts& starts) {
  const std::int64_t low = starts.least() + s.low, high = starts.most() + s.high;
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
static void locate_far(const Locator& by, WarpScratch& scratch, int column, std::int64_t row);

// How a tile's rows are located: what does not change from row to row.
struct Locator {
  FillMode mode;
  const PositionMap* map;
  const OutTile* out;
  BlockSteps x, y;
  I32 scale;           // bytes, or elements, of a column and of a row: 16 bits each
  std::int64_t round;  // of a nearest pixel: half a one

  // Where each column's taps begin, in the order that Note [Order of offsets] has.
  STROP_MEMBER I32 offsets(I32 at_x, I32 at_y) const {
    const U32 column = bit_cast<U32>(at_x) >> 16;
    return products_of_words(bit_cast<I32>(join_halves(column, bit_cast<U32>(at_y))), scale);
  }

  STROP_MEMBER I16 fractions(EvenOdd at) const {
    const U32 words = join_halves(bit_cast<U32>(at.even), bit_cast<U32>(at.odd) << 16);
    return bit_cast<I16>(bit_cast<W16>(words) >> 1);
  }

  // (16.16, from the box's origin)
  STROP_MEMBER void store(WarpScratch& scratch, int column, EvenOdd at_x, EvenOdd at_y) const {
    store_unaligned(scratch.offsets + column, offsets(at_x.even, at_y.even));
    store_unaligned(scratch.offsets + column + kLanes, offsets(at_x.odd, at_y.odd));
    if (round != 0) return;  // the nearest pixel: see below
    store_unaligned(scratch.fractions_x + column, fractions(at_x));
    store_unaligned(scratch.fractions_y + column, fractions(at_y));
  }

  STROP_MEMBER void locate_inside(WarpScratch& scratch, int column, const Starts& x_starts,
                                  const Starts& y_starts) const {
    const I32 from_x = x_starts.vector(x.origin - round);
    const I32 from_y = y_starts.vector(y.origin - round);
    for (int i = 0; i < kUnitPairs; ++i) {
      store(scratch, column + i * 2 * kLanes, {x.step[i].even + from_x, x.step[i].odd + from_x},
            {y.step[i].even + from_y, y.step[i].odd + from_y});
    }
  }

  STROP_MEMBER I32 within(I32 position, const BlockSteps& s) const {
    const auto origin = static_cast<std::int32_t>(s.origin - round);
    return (vector_within(mode, position, s) - origin) << 1;
  }

  STROP_MEMBER static I32 outside(I32 position, const BlockSteps& s) {
    return I32(position < 0) | I32(position > static_cast<std::int32_t>(s.last));
  }

  STROP_MEMBER void locate_near(WarpScratch& scratch, int column, const Starts& x_starts,
                                const Starts& y_starts) const {
    const I32 from_x = x_starts.vector(0), from_y = y_starts.vector(0);
    for (int i = 0; i < kUnitPairs; ++i, column += 2 * kLanes) {
      const EvenOdd px = {(x.step[i].even + from_x) >> 1, (x.step[i].odd + from_x) >> 1};
      const EvenOdd py = {(y.step[i].even + from_y) >> 1, (y.step[i].odd + from_y) >> 1};
      if (mode == FillMode::kHardConstant) {
        const I32 even = outside(px.even, x) | outside(py.even, y);
        const I32 odd = outside(px.odd, x) | outside(py.odd, y);
        store_unaligned(scratch.outside + column,
                        join_halves(bit_cast<U32>(even), bit_cast<U32>(odd)));
      }
      store(scratch, column, {within(px.even, x), within(px.odd, x)},
            {within(py.even, y), within(py.odd, y)});
    }
  }

  // Units [column, end) that are inside: returns where it stopped.
  STROP_MEMBER int locate_run(WarpScratch& scratch, int column, int end, std::int64_t at_x,
                              std::int64_t at_y) const {
    const std::int64_t more_x = x.more_inside(at_x), more_y = y.more_inside(at_y);
    const std::int64_t blocks = (more_x < more_y ? more_x : more_y) + 1;
    const std::int64_t wanted =
        column + (blocks < kUnitBlocks ? kUnitBlocks : blocks) / kUnitBlocks * kUnit;
    const int stop = wanted < end ? static_cast<int>(wanted) : end;
    for (; column < stop; column += kUnit) {
      locate_inside(scratch, column, unit_starts(at_x, x.by_block), unit_starts(at_y, y.by_block));
      at_x += x.by_block * kUnitBlocks;
      at_y += y.by_block * kUnitBlocks;
    }
    return column;
  }

  // Locates a row; returns its columns that see the image, from the tile's first on: whole units.
  STROP_MEMBER Columns locate(WarpScratch& scratch, std::int64_t row) const {
    const bool constant = mode == FillMode::kConstant, hard = mode == FillMode::kHardConstant;
    const std::int64_t around = constant ? kOnePixel - 1 : 0;
    Columns seen = {0, 0};
    const auto width = static_cast<int>(out->columns());
    for (int column = 0; column < width;) {
      const std::int64_t at_x = unit_at(map->x, out->column + column, row);
      const std::int64_t at_y = unit_at(map->y, out->column + column, row);
      const Starts xs = unit_starts(at_x, x.by_block), ys = unit_starts(at_y, y.by_block);
      const bool inside = x.inside(xs) && y.inside(ys);
      if (!inside && (constant || hard) && (x.misses(xs, around) || y.misses(ys, around))) {
        if (seen.end > 0) break;
        column += kUnit;
        continue;
      }
      if (seen.end == 0) seen.begin = column;
      if (inside) {
        const int begin = column;
        column = locate_run(scratch, column, width, at_x, at_y);
        if (hard) std::memset(scratch.outside + begin, 0, (column - begin) * sizeof(std::int16_t));
      } else {
        if (x.within_reach(xs) && y.within_reach(ys) && one_period_away(mode, x, xs) &&
            one_period_away(mode, y, ys)) {
          locate_near(scratch, column, xs, ys);
        } else {
          locate_far(*this, scratch, column, row);
        }
        column += kUnit;
      }
      seen.end = column;
    }
    return seen;
  }
};

// Position by position: far away, or in images whose positions vectors do not hold.
__attribute__((noinline)) static void locate_far(const Locator& by, WarpScratch& scratch,
                                                 int column, std::int64_t row) {
  for (int pair = 0; pair < kUnitPairs; ++pair, column += 2 * kLanes) {
    std::int32_t at_x[2][kLanes], at_y[2][kLanes];
    for (int k = 0; k < 2 * kLanes; ++k) {
      const std::int64_t wanted = by.out->column + column + k;
      const std::int64_t j = wanted < by.out->column_end ? wanted : by.out->column_end - 1;
      const std::int64_t px = by.map->x.at(row, j), py = by.map->y.at(row, j);
      if (by.mode == FillMode::kHardConstant) {
        const bool seen = px >= 0 && px <= by.x.last && py >= 0 && py <= by.y.last;
        scratch.outside[column + k] = seen ? 0 : -1;
      }
      const auto within = [&](std::int64_t p, const BlockSteps& s) {
        return position_within(by.mode, p, s.all / kOnePixel) - s.origin + by.round;
      };
      at_x[k % 2][k / 2] = static_cast<std::int32_t>(2 * within(px, by.x));
      at_y[k % 2][k / 2] = static_cast<std::int32_t>(2 * within(py, by.y));
    }
    by.store(scratch, column, {load_unaligned<I32>(at_x[0]), load_unaligned<I32>(at_x[1])},
             {load_unaligned<I32>(at_y[0]), load_unaligned<I32>(at_y[1])});
  }
}

STROP_INLINE Locator locator(const Warp& warp, const WarpTile& tile, int column_scale,
                             int row_scale, WarpScratch& scratch) {
  const bool nearest = warp.interpolation == Interpolation::kNearest;
  if (nearest) {  // no row of the tile has fractions
    std::memset(scratch.fractions_x, 0, sizeof scratch.fractions_x);
    std::memset(scratch.fractions_y, 0, sizeof scratch.fractions_y);
  }
  return {.mode = warp.fill_mode,
          .map = &tile.map,
          .out = &tile.out,
          .x = block_steps(tile.map.x, warp.in_width, tile.box.column),
          .y = block_steps(tile.map.y, warp.in_height, tile.box.row),
          .scale = broadcast(static_cast<std::int32_t>(row_scale << 16 | column_scale)),
          .round = nearest ? kOnePixel / 2 : 0};
}

}  // namespace strop::augment::simd::STROP_ISA
