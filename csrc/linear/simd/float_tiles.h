#pragma once

// Products of bfloat16 x by AMX, with values of bfloat16 that a mask keeps, and with codes, decoded
// to the bfloat16 that dequantize gives. Compiled once per instruction set; there is nothing here
// for sets without AMX.
//
// Two panels by 32 rows of x are four tiles of sums, whose operands are loaded twice for four
// products. What a mask keeps is put into tiles by VPEXPANDW, which keeps one port two cycles for
// 32 weights: 64 for both tiles, as long as the products take another unit. Codes take three times
// that. So rows of x after the first 32 cost their products alone. A tile is put two steps before
// it is loaded, since a load of tiles waits until what it reads has left the store buffer; and in
// few places, where all of x fits two tiles, so that they stay in the first cache (6.7 cycles for
// 64 weights, not 10).

#include "linear/simd/tile_sources.h"

#if defined(__AMX_BF16__)
#define STROP_FLOAT_TILES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr int kLead = 2, kRing = 4;  // steps
inline constexpr int kFloatTileBytes = kTileBytes * kTileRows;
inline constexpr std::int64_t kHeldTiles = kValueColumns / kTileColumns;  // tiles of a panel

// Whether x is placed in tiles.
STROP_INLINE bool suits_float_tiles(const CodesTask& task) {
  const bool values = task.args.header().code_kind == CodeKind::kValue;
  return task.args.dtype == DType::kBFloat16 && (values || task.args.rows >= kMinTileRows);
}

// Whether tiles have rows of the weight.
STROP_INLINE bool suits_row_tiles(const CodesHeader& header) {
  return header.store == CodeStore::kNibbles && header.stretch % kTileColumns == 0;
}

STROP_INLINE std::int64_t tile_places(const CodesHeader& header) {
  return (header.places() + kTileColumns - 1) / kTileColumns * kTileColumns;
}

// What up to 32 rows of x are multiplied with: one panel or two.
struct FloatRun {
  const std::uint8_t* x[2];  // tiles of rows
  std::int64_t bytes[2];     // of each
  std::int64_t count;        // of all of x
  std::uint8_t* panels[2];
  float* sums[2];
  bool first;  // nothing was summed before
};

template <int kPanels, bool kManyRows>
STROP_INLINE void begin_sums(const FloatRun& run) {
  run.first ? clear_pair() : load_pair<kPanels, kManyRows>(run.sums);
}

// The same where the panels' tiles have rows of the weight, and those of x have them in columns.
template <bool kFirst, bool kSecond, bool kManyRows>
STROP_INLINE void add_products_of_rows(const FloatRun& run, std::int64_t i,
                                       const std::uint16_t (&places)[2]) {
  if constexpr (kFirst) _tile_loadd(4, run.panels[0] + places[0], kTileBytes);
  if constexpr (kSecond) _tile_loadd(5, run.panels[1] + places[1], kTileBytes);
  _tile_loadd(6, run.x[0] + i * run.bytes[0], run.bytes[0] / kTileRows);
  if constexpr (kFirst) _tile_dpbf16ps(0, 4, 6);
  if constexpr (kSecond) _tile_dpbf16ps(1, 5, 6);
  if constexpr (kManyRows) {
    _tile_loadd(7, run.x[1] + i * run.bytes[1], run.bytes[1] / kTileRows);
    if constexpr (kFirst) _tile_dpbf16ps(2, 4, 7);
    if constexpr (kSecond) _tile_dpbf16ps(3, 5, 7);
  }
}

// Step `i` of x times the tiles of the first panel, of the second, or of both.
template <bool kOfRows, bool kFirst, bool kSecond, bool kManyRows>
STROP_INLINE void add_products(const FloatRun& run, std::int64_t i,
                               const std::uint16_t (&places)[2]) {
  if constexpr (kOfRows) return add_products_of_rows<kFirst, kSecond, kManyRows>(run, i, places);
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
template <int kPanels, bool kManyRows, class Tiles>
void multiply_once(const FloatRun& run, Tiles* tiles) {
  constexpr bool kTwo = kPanels == 2;
  begin_sums<kPanels, kManyRows>(run);
  bool held[kRing][2] = {};
  const auto place = [](std::int64_t i) { return i % kRing * kFloatTileBytes; };
  const auto put = [&](std::int64_t i) STROP_UNROLLED {
    held[i % kRing][0] = tiles[0].put(run.panels[0] + place(i));
    if constexpr (kTwo) held[i % kRing][1] = tiles[1].put(run.panels[1] + place(i));
  };
  for (std::int64_t i = 0; i < kLead && i < run.count; ++i) put(i);
  for (std::int64_t i = 0; i < run.count; ++i) {
    if (i + kLead < run.count) put(i + kLead);
    keep_in_memory(run.panels[0]);
    const bool first = held[i % kRing][0], second = held[i % kRing][1];
    const auto at = static_cast<std::uint16_t>(place(i));
    const std::uint16_t places[2] = {at, at};
    if (first && second) {
      add_products<Tiles::kOfRows, true, kTwo, kManyRows>(run, i, places);
    } else if (first) {
      add_products<Tiles::kOfRows, true, false, kManyRows>(run, i, places);
    } else if (second) {
      add_products<Tiles::kOfRows, false, kTwo, kManyRows>(run, i, places);
    }
  }
  store_pair<kPanels, kManyRows>(run.sums);
}

// The steps of a stretch, by the panels that have something there. It ends where a panel has filled
// its places, so that the sparser blocks are, the fewer stretches there are.
class FloatSteps {
 public:
  // Puts what there is from step `begin` on. Returns where it stopped.
  template <int kPanels, class Tiles>
  STROP_MEMBER std::int64_t put(const FloatRun& run, std::int64_t begin, std::int64_t end,
                                Tiles* tiles) {
    std::int64_t held[2] = {}, i = begin;
    std::memset(counts_, 0, sizeof counts_);
    for (; i < end && held[0] < kHeldTiles && held[1] < kHeldTiles && i - begin < kMaxSteps; ++i) {
      int panels = 0;
      Step step = {.at = static_cast<std::uint16_t>(i - begin), .places = {}};
      for (int panel = 0; panel < kPanels; ++panel) {
        const std::int64_t place = held[panel] * kFloatTileBytes;
        if (!tiles[panel].put(run.panels[panel] + place)) continue;
        step.places[panel] = static_cast<std::uint16_t>(place);
        ++held[panel];
        panels |= 1 << panel;
      }
      steps_[panels][counts_[panels]++] = step;
    }
    keep_in_memory(run.panels[0]);
    return i;
  }
  template <int kPanels, bool kManyRows, bool kOfRows>
  STROP_MEMBER void multiply(const FloatRun& run) const {
    begin_sums<kPanels, kManyRows>(run);
    add<kOfRows, true, kPanels == 2, kManyRows>(run, 3);
    add<kOfRows, true, false, kManyRows>(run, 1);
    add<kOfRows, false, kPanels == 2, kManyRows>(run, 2);
    store_pair<kPanels, kManyRows>(run.sums);
  }

 private:
  static constexpr std::int64_t kMaxSteps = 128;
  struct Step {
    std::uint16_t at;
    std::uint16_t places[2];
  };

  template <bool kOfRows, bool kFirst, bool kSecond, bool kManyRows>
  STROP_MEMBER void add(const FloatRun& run, int panels) const {
    for (std::int64_t n = 0; n < counts_[panels]; ++n) {
      const Step& step = steps_[panels][n];
      add_products<kOfRows, kFirst, kSecond, kManyRows>(run, step.at, step.places);
    }
  }

  std::int64_t counts_[4];
  Step steps_[4][kMaxSteps];
};

// Rows of x in tiles: of up to 16 rows, 32 columns after another.
struct TiledRows {
  const CodesTask& task;

  STROP_MEMBER std::int64_t rows(std::int64_t row) const {
    const std::int64_t left = task.args.rows - row / kTileRows * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  // Of a tile, in bytes.
  STROP_MEMBER std::int64_t bytes(std::int64_t row) const { return rows(row) * kTileBytes; }
  STROP_MEMBER std::uint8_t* at(std::int64_t row, std::int64_t place) const {
    const std::int64_t first = row / kTileRows * kTileRows;
    return static_cast<std::uint8_t*>(task.x) + first * tile_places(task.args.header()) * 2 +
           place / kTileColumns * bytes(row);
  }
  // 32 columns of a row to a tile, as the panels' want them.
  STROP_MEMBER void put(std::int64_t row, std::uint8_t* tile, __m512i columns) const {
    if (!suits_row_tiles(task.args.header())) {
      return store_unaligned(tile + row % kTileRows * kTileBytes, columns);
    }
    std::int16_t order[kTileColumns];
    for (int i = 0; i < kTileColumns; ++i) {
      order[i] = static_cast<std::int16_t>(RowTiles::column_of(i));
    }
    std::uint32_t pairs[kTileRows];
    store_unaligned(pairs, _mm512_permutexvar_epi16(load_unaligned<__m512i>(order), columns));
    for (int i = 0; i < kTileRows; ++i) {
      std::memcpy(tile + (i * rows(row) + row % kTileRows) * 4, pairs + i, 4);
    }
  }
};

// Beside a mask also notes whether all of a row is finite, and has 0 where it is not.
STROP_INLINE void place_in_tiles(const CodesTask& task, std::int64_t row) {
  const CodesHeader& header = task.args.header();
  const TiledRows rows = {task};
  const auto* const x = static_cast<const BFloat16*>(task.args.x) + row * task.args.x_stride;
  const bool in_order = header.groups == 1 || header.group == header.stretch;
  const __m512i exponent = _mm512_set1_epi16(0x7f80);
  __mmask32 odd = 0;  // of Inf and NaN
  std::uint8_t* to = rows.at(row, 0);
  for (std::int64_t k = 0; k < tile_places(header); k += kTileColumns, to += rows.bytes(row)) {
    __m512i columns;
    if (in_order) {
      const std::int64_t left = header.columns - k;
      const __mmask32 there = left >= kTileColumns ? ~__mmask32{0}
                              : left > 0           ? (1u << left) - 1
                                                   : 0;
      columns = _mm512_maskz_loadu_epi16(there, x + k);
    } else {
      BFloat16 each[kTileColumns] = {};
      for (int i = 0; i < kTileColumns; ++i) {
        const std::int64_t column = column_at(header, k + i);
        if (column >= 0) each[i] = x[column];
      }
      columns = load_unaligned<__m512i>(each);
    }
    if (header.masks != 0) {
      const __mmask32 here = _mm512_cmpeq_epi16_mask(_mm512_and_si512(columns, exponent), exponent);
      odd |= here;
      columns = _mm512_maskz_mov_epi16(~here, columns);
    }
    rows.put(row, to, columns);
  }
  if (header.masks != 0) task.x_finite[row] = odd == 0;
}

// One panel, or two, times a block of rows.
template <int kPanels, class Tiles>
void multiply_tile_panels(const PanelBlock (&blocks)[2], PairShapes& shapes) {
  const PanelBlock& block = blocks[0];
  const TiledRows x = {block.task};
  Tiles tiles[2] = {Tiles(blocks[0]), Tiles(blocks[kPanels - 1])};
  constexpr std::int64_t kRows = 2 * kTileRows;
  const bool once = block.rows <= kRows;
  const std::int64_t end = tile_places(block.header) / kTileColumns;
  FloatSteps steps;
  for (std::int64_t begin = 0, next = end; begin < end; begin = next) {
    FloatRun run = {.x = {},
                    .bytes = {},
                    .count = end,
                    .panels = {block.spread, block.spread + kHeldTiles * kFloatTileBytes},
                    .sums = {blocks[0].floats, blocks[1].floats},
                    .first = begin == 0};
    if (!once) next = steps.put<kPanels>(run, begin, end, tiles);
    for (std::int64_t row = 0; row < block.rows; row += kRows) {
      const std::int64_t rows = block.rows - row < kRows ? block.rows - row : kRows;
      Tiles::kOfRows ? shapes.shape_columns(rows) : shapes.shape(rows);
      const bool many = rows > kTileRows;
      for (int i = 0; i < (many ? 2 : 1); ++i) {
        const std::int64_t first = block.row + row + i * kTileRows;
        run.x[i] = x.at(first, begin * kTileColumns);
        run.bytes[i] = x.bytes(first);
      }
      if (once) {
        many ? multiply_once<kPanels, true>(run, tiles) : multiply_once<kPanels, false>(run, tiles);
      } else {
        many ? steps.multiply<kPanels, true, Tiles::kOfRows>(run)
             : steps.multiply<kPanels, false, Tiles::kOfRows>(run);
      }
      run.sums[0] += rows * kPanelRows;
      run.sums[1] += rows * kPanelRows;
    }
  }
}

// Sums whose rows are those of the weight, turned over.
template <int kPanels>
STROP_INLINE void turn_sums(const PanelBlock (&blocks)[2]) {
  for (int panel = 0; panel < kPanels; ++panel) {
    for (std::int64_t row = 0; row < blocks[panel].rows; row += kTileRows) {
      float* const sums = blocks[panel].floats + row * kPanelRows;
      F32 each[kLanes];
      for (int i = 0; i < kLanes; ++i) each[i] = load_unaligned<F32>(sums + i * kLanes);
      transpose(each);
      for (int i = 0; i < kLanes; ++i) store_unaligned(sums + i * kLanes, each[i]);
    }
  }
}

// Blocks of rows x panels [begin, end). Calls put(blocks, count) for those that are multiplied.
template <class Tiles, class Put>
void for_tile_panels(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                     std::int64_t end, Put put) {
  for_panel_pairs(task, scratch, begin, end,
                  [&](PanelBlock(&blocks)[2], int count, PairShapes& shapes) STROP_UNROLLED {
                    count == 2 ? multiply_tile_panels<2, Tiles>(blocks, shapes)
                               : multiply_tile_panels<1, Tiles>(blocks, shapes);
                    if constexpr (Tiles::kOfRows) turn_sums<2>(blocks);
                    put(blocks, count);
                  });
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
