#pragma once

// Products of bfloat16 x with values of bfloat16 that a mask keeps, by AMX. Compiled once per
// instruction set; there is nothing here for sets without it.
//
// Two panels by 32 rows of x are four tiles of sums, whose operands are loaded twice for four
// products. The panels' values are put into tiles by VPEXPANDW, which keeps one port two cycles for
// 32 weights: 64 for both tiles, as long as the products take another unit. So rows of x after the
// first 32 cost their products alone. A tile is put two steps before it is loaded, since a load of
// tiles waits until what it reads has left the store buffer; and in few places, where all of x fits
// two tiles, so that they stay in the first cache (6.7 cycles for 64 weights, not 10).

#include "linear/simd/spread.h"
#include "linear/simd/tiles.h"

#if defined(__AMX_BF16__)
#define STROP_VALUE_TILES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr int kTileColumns = 32;
inline constexpr int kLead = 2, kRing = 4;  // steps
inline constexpr int kValueTileBytes = kTileBytes * kTileRows;
inline constexpr std::int64_t kValueRoom = kValueColumns / kTileColumns;  // tiles of a panel

STROP_INLINE bool suits_value_tiles(const CodesTask& task) {
  return task.args.dtype == DType::kBFloat16 && task.args.header().code_kind == CodeKind::kValue;
}

// Tiles 0 to 3 are sums, of rows and panels; 4 and 5 panels, 6 and 7 rows of x.
class ValueTileShapes {
 public:
  // Of up to 32 rows.
  STROP_MEMBER void shape(std::int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    struct alignas(64) {
      std::uint8_t palette = 1;
      std::uint8_t start = 0;
      std::uint8_t unused[14] = {};
      std::uint16_t bytes[16] = {};
      std::uint8_t rows[16] = {};
    } shapes;
    const std::int64_t first = rows < kTileRows ? rows : kTileRows;
    const std::int64_t second = rows > kTileRows ? rows - kTileRows : 1;
    for (int tile = 0; tile < 8; ++tile) {
      const bool of_panel = tile == 4 || tile == 5;
      const bool of_second = tile == 2 || tile == 3 || tile == 7;
      shapes.bytes[tile] = kTileBytes;
      shapes.rows[tile] = static_cast<std::uint8_t>(of_panel    ? kTileRows
                                                    : of_second ? second
                                                                : first);
    }
    _tile_loadconfig(&shapes);
  }

 private:
  std::int64_t rows_ = -1;
};

// What up to 32 rows of x are multiplied with: one panel or two.
struct ValueRun {
  const std::uint8_t* x[2];  // tiles of rows
  std::int64_t bytes[2];     // of each
  std::int64_t count;        // of all of x
  std::uint8_t* panels[2];
  float* sums[2];
  bool first;  // nothing was summed before
};

constexpr std::int64_t kTileWords = kTileColumns * kPanelRows / kWordCodes;

// Whether nothing is kept of a tile.
STROP_INLINE bool is_empty(const std::uint64_t* masks) {
  static_assert(kTileWords * 8 == kVectorBytes);
  const auto words = load_unaligned<__m512i>(masks);
  return _mm512_test_epi64_mask(words, words) == 0;
}

// Returns whether anything is kept.
STROP_INLINE bool spread_tile(Kept& kept, std::uint8_t* to) {
  if (is_empty(kept.masks)) {
    kept.masks += kTileWords;
    return false;
  }
  prefetch(reinterpret_cast<const std::uint8_t*>(kept.masks) + kAhead / 2);
  for (int word = 0; word < kTileWords; ++word) {
    prefetch(kept.codes + kAhead);
    spread_values(kept, to + word * 2 * kWordCodes);
  }
  return true;
}

template <int kPanels, bool kManyRows>
STROP_INLINE void begin_sums(const ValueRun& run) {
  constexpr std::int64_t kNext = kTileRows * kPanelRows;  // sums of the second tile of rows
  if (run.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, run.sums[0], kTileBytes);
    if constexpr (kPanels == 2) _tile_loadd(1, run.sums[1], kTileBytes);
    if constexpr (kManyRows) _tile_loadd(2, run.sums[0] + kNext, kTileBytes);
    if constexpr (kManyRows && kPanels == 2) _tile_loadd(3, run.sums[1] + kNext, kTileBytes);
  }
}

template <int kPanels, bool kManyRows>
STROP_INLINE void end_sums(const ValueRun& run) {
  constexpr std::int64_t kNext = kTileRows * kPanelRows;
  _tile_stored(0, run.sums[0], kTileBytes);
  if constexpr (kPanels == 2) _tile_stored(1, run.sums[1], kTileBytes);
  if constexpr (kManyRows) _tile_stored(2, run.sums[0] + kNext, kTileBytes);
  if constexpr (kManyRows && kPanels == 2) _tile_stored(3, run.sums[1] + kNext, kTileBytes);
}

// Step `i` of x times the tiles of the first panel, of the second, or of both.
template <bool kFirst, bool kSecond, bool kManyRows>
STROP_INLINE void add_products(const ValueRun& run, std::int64_t i,
                               const std::uint16_t (&places)[2]) {
  if constexpr (kFirst) _tile_loadd(4, run.panels[0] + places[0], kTileBytes);
  if constexpr (kSecond) _tile_loadd(5, run.panels[1] + places[1], kTileBytes);
  _tile_loadd(6, run.x[0] + i * run.bytes[0], kTileBytes);
  if constexpr (kFirst) _tile_dpbf16ps(0, 6, 4);
  if constexpr (kSecond) _tile_dpbf16ps(1, 6, 5);
  if constexpr (kManyRows) {
    _tile_loadd(7, run.x[1] + i * run.bytes[1], kTileBytes);
    if constexpr (kFirst) _tile_dpbf16ps(2, 7, 4);
    if constexpr (kSecond) _tile_dpbf16ps(3, 7, 5);
  }
}

// All of x: a tile is put, and multiplied two steps later.
template <int kPanels, bool kManyRows>
void multiply_values_once(const ValueRun& run, Kept* kept) {
  constexpr bool kTwo = kPanels == 2;
  begin_sums<kPanels, kManyRows>(run);
  bool held[kRing][2] = {};
  const auto place = [](std::int64_t i) { return i % kRing * kValueTileBytes; };
  const auto put = [&](std::int64_t i) STROP_UNROLLED {
    held[i % kRing][0] = spread_tile(kept[0], run.panels[0] + place(i));
    if constexpr (kTwo) held[i % kRing][1] = spread_tile(kept[1], run.panels[1] + place(i));
  };
  for (std::int64_t i = 0; i < kLead && i < run.count; ++i) put(i);
  for (std::int64_t i = 0; i < run.count; ++i) {
    if (i + kLead < run.count) put(i + kLead);
    const bool first = held[i % kRing][0], second = held[i % kRing][1];
    const auto at = static_cast<std::uint16_t>(place(i));
    const std::uint16_t places[2] = {at, at};
    if (first && second) {
      add_products<true, kTwo, kManyRows>(run, i, places);
    } else if (first) {
      add_products<true, false, kManyRows>(run, i, places);
    } else if (second) {
      add_products<false, kTwo, kManyRows>(run, i, places);
    }
  }
  end_sums<kPanels, kManyRows>(run);
}

// The steps of a stretch, by the panels that have something there. It ends where a panel has filled
// its room, so that the sparser blocks are, the fewer stretches there are.
class ValueSteps {
 public:
  // Puts what there is from step `begin` on. Returns where it stopped.
  template <int kPanels>
  STROP_MEMBER std::int64_t put(const ValueRun& run, std::int64_t begin, std::int64_t end,
                                Kept* kept) {
    std::int64_t held[2] = {}, i = begin;
    std::memset(counts_, 0, sizeof counts_);
    for (; i < end && held[0] < kValueRoom && held[1] < kValueRoom && i - begin < kMost; ++i) {
      int panels = 0;
      Step step = {.at = static_cast<std::uint16_t>(i - begin), .places = {}};
      for (int panel = 0; panel < kPanels; ++panel) {
        const std::int64_t place = held[panel] * kValueTileBytes;
        if (!spread_tile(kept[panel], run.panels[panel] + place)) continue;
        step.places[panel] = static_cast<std::uint16_t>(place);
        ++held[panel];
        panels |= 1 << panel;
      }
      steps_[panels][counts_[panels]++] = step;
    }
    return i;
  }
  template <int kPanels, bool kManyRows>
  STROP_MEMBER void multiply(const ValueRun& run) const {
    begin_sums<kPanels, kManyRows>(run);
    add<true, kPanels == 2, kManyRows>(run, 3);
    add<true, false, kManyRows>(run, 1);
    add<false, kPanels == 2, kManyRows>(run, 2);
    end_sums<kPanels, kManyRows>(run);
  }

 private:
  static constexpr std::int64_t kMost = 128;
  struct Step {
    std::uint16_t at;
    std::uint16_t places[2];
  };

  template <bool kFirst, bool kSecond, bool kManyRows>
  STROP_MEMBER void add(const ValueRun& run, int panels) const {
    for (std::int64_t n = 0; n < counts_[panels]; ++n) {
      const Step& step = steps_[panels][n];
      add_products<kFirst, kSecond, kManyRows>(run, step.at, step.places);
    }
  }

  std::int64_t counts_[4];
  Step steps_[4][kMost];
};

// Rows of x in tiles: of up to 16 rows, 32 columns after another.
struct ValueRows {
  const CodesTask& task;

  STROP_MEMBER std::int64_t rows(std::int64_t row) const {
    const std::int64_t left = task.args.rows - row / kTileRows * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  // Of a tile, in bytes.
  STROP_MEMBER std::int64_t bytes(std::int64_t row) const { return rows(row) * kTileBytes; }
  STROP_MEMBER std::uint8_t* at(std::int64_t row, std::int64_t place) const {
    const std::int64_t first = row / kTileRows * kTileRows;
    return static_cast<std::uint8_t*>(task.x) + first * task.args.header().places() * 2 +
           place / kTileColumns * bytes(row) + row % kTileRows * kTileBytes +
           place % kTileColumns * 2;
  }
};

// Also notes whether all of a row is finite, and has 0 where it is not.
STROP_INLINE void place_in_tiles(const CodesTask& task, std::int64_t row) {
  const CodesHeader& header = task.args.header();
  const ValueRows rows = {task};
  const auto* const x =
      static_cast<const std::uint8_t*>(task.args.x) + row * task.args.x_stride * 2;
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  __mmask32 odd = 0;  // of Inf and NaN
  std::uint8_t* to = rows.at(row, 0);
  for (std::int64_t k = 0; k < header.places(); k += kTileColumns, to += rows.bytes(row)) {
    const std::int64_t left = header.columns - k;
    const __mmask32 there = left >= kTileColumns ? ~__mmask32{0} : left > 0 ? (1u << left) - 1 : 0;
    const __m512i columns = _mm512_maskz_loadu_epi16(there, x + 2 * k);
    const __mmask32 here = _mm512_cmpeq_epi16_mask(_mm512_and_si512(columns, exponent), exponent);
    odd |= here;
    _mm512_storeu_si512(to, _mm512_maskz_mov_epi16(~here, columns));
  }
  task.x_finite[row] = odd == 0;
}

// One panel, or two, times a block of rows.
template <int kPanels>
void multiply_value_panels(const PanelBlock (&blocks)[2], ValueTileShapes& shapes) {
  const PanelBlock& block = blocks[0];
  const std::int64_t places = block.header.places();
  const ValueRows x = {block.task};
  Kept kept[2] = {kept_of(blocks[0]), kept_of(blocks[kPanels - 1])};
  constexpr std::int64_t kRows = 2 * kTileRows;
  const bool once = block.rows <= kRows;
  const std::int64_t end = places / kTileColumns;
  ValueSteps steps;
  for (std::int64_t begin = 0, next = end; begin < end; begin = next) {
    ValueRun run = {.x = {},
                    .bytes = {},
                    .count = end,
                    .panels = {block.spread, block.spread + kValueRoom * kValueTileBytes},
                    .sums = {blocks[0].floats, blocks[1].floats},
                    .first = begin == 0};
    if (!once) next = steps.put<kPanels>(run, begin, end, kept);
    for (std::int64_t row = 0; row < block.rows; row += kRows) {
      const std::int64_t rows = block.rows - row < kRows ? block.rows - row : kRows;
      shapes.shape(rows);
      const bool many = rows > kTileRows;
      for (int i = 0; i < (many ? 2 : 1); ++i) {
        const std::int64_t first = block.row + row + i * kTileRows;
        run.x[i] = x.at(first, begin * kTileColumns);
        run.bytes[i] = x.bytes(first);
      }
      if (once) {
        many ? multiply_values_once<kPanels, true>(run, kept)
             : multiply_values_once<kPanels, false>(run, kept);
      } else {
        many ? steps.multiply<kPanels, true>(run) : steps.multiply<kPanels, false>(run);
      }
      run.sums[0] += rows * kPanelRows;
      run.sums[1] += rows * kPanelRows;
    }
  }
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
