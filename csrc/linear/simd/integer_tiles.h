#pragma once

// Products of integers by AMX, signed bytes times signed bytes. Compiled once per instruction set;
// there is nothing here for sets without AMX.
//
// Two panels by 32 rows of x are multiplied at a time. Bytes with one scale a row lie as tiles take
// them, and sums stay in tiles all along a panel. Otherwise a chunk of columns is put in the first
// cache, for all rows of a block: nibbles as bytes less their zero points. What becomes of the sums
// of groups is in grouped_tiles.h.

#include "linear/simd/integer_sums.h"
#include "linear/simd/spread.h"
#include "linear/simd/tiles.h"

#if defined(STROP_TILES)

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

STROP_INLINE bool suits_tiles(const CodesTask& task) { return task.args.rows >= kMinTileRows; }

// Rows of x in tiles: of up to 16 rows, as many columns as a tile takes after another.
struct TiledCodes {
  const CodesTask& task;

  STROP_MEMBER std::int64_t width() const { return tile_width(task.args.header().stretch); }
  // Of the tile that a row is in.
  STROP_MEMBER std::int64_t rows(std::int64_t row) const {
    const std::int64_t left = task.args.rows - row / kTileRows * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  STROP_MEMBER std::uint8_t* at(std::int64_t row) const {
    const std::int64_t first = row / kTileRows * kTileRows;
    return static_cast<std::uint8_t*>(task.x) + first * task.args.header().places() +
           row % kTileRows * width();
  }
  // Where a row is put in order first: x has two bytes for each code.
  STROP_MEMBER std::uint8_t* in_order(std::int64_t row) const {
    return static_cast<std::uint8_t*>(task.x) +
           (task.args.rows + row) * task.args.header().places();
  }
  STROP_MEMBER void place(std::int64_t row) const {
    const std::uint8_t* const from = in_order(row);
    std::uint8_t* to = at(row);
    const std::int64_t bytes = width();
    const __mmask64 mask = ~std::uint64_t{0} >> (64 - bytes);
    for (std::int64_t k = 0; k < task.args.header().places(); k += bytes) {
      _mm512_mask_storeu_epi8(to, mask, _mm512_maskz_loadu_epi8(mask, from + k));
      to += rows(row) * bytes;
    }
  }
};

// What up to 32 rows of x are multiplied with.
struct PairRun {
  const std::uint8_t* panels[2];
  const std::uint8_t* x[2];
  std::int64_t bytes[2];  // of a tile of x
  std::int64_t width;     // of its rows
  std::int64_t count;     // of tiles, side by side
};

STROP_INLINE PairRun run_of(const PanelBlock& block, std::int64_t row, std::int64_t place) {
  const TiledCodes rows = {block.task};
  const std::int64_t first = block.row + row;
  // (a second tile that has no row is not read)
  const std::int64_t second = block.rows - row > kTileRows ? first + kTileRows : first;
  return {
      .panels = {},
      .x = {rows.at(first) + place * rows.rows(first), rows.at(second) + place * rows.rows(second)},
      .bytes = {rows.rows(first) * rows.width(), rows.rows(second) * rows.width()},
      .width = rows.width(),
      .count = 0};
}

// The codes of the next pair of panels come to the second cache while rows are multiplied with this
// one: some of them at each step, since many at once would be waited for.
class PairAhead {
 public:
  PairAhead(const PanelBlock& block, std::int64_t steps)
      : at_(block.codes() + 2 * block.header.panel_bytes()),
        bytes_(block.header.masks != 0
                   ? 0
                   : (2 * block.header.panel_bytes() / 64 + steps - 1) / steps * 64) {}

  STROP_MEMBER void fetch() {
    for (const std::uint8_t* const end = at_ + bytes_; at_ < end; at_ += 64) {
      _mm_prefetch(at_, _MM_HINT_T1);
    }
  }

 private:
  const std::uint8_t* at_;
  std::int64_t bytes_;  // a step
};

// Adds the products of all tiles of a run, which moves on.
template <int kPanels, bool kManyRows>
STROP_INLINE void add_products(PairRun& run, PairAhead& ahead) {
  for (std::int64_t i = 0; i < run.count; ++i) {
    ahead.fetch();
    _tile_loadd(4, run.panels[0], kTileBytes);
    run.panels[0] += run.width * kPanelRows;
    if constexpr (kPanels == 2) {
      _tile_loadd(5, run.panels[1], kTileBytes);
      run.panels[1] += run.width * kPanelRows;
    }
    _tile_loadd(6, run.x[0], run.width);
    run.x[0] += run.bytes[0];
    _tile_dpbssd(0, 6, 4);
    if constexpr (kPanels == 2) _tile_dpbssd(1, 6, 5);
    if constexpr (kManyRows) {
      _tile_loadd(7, run.x[1], run.width);
      run.x[1] += run.bytes[1];
      _tile_dpbssd(2, 7, 4);
      if constexpr (kPanels == 2) _tile_dpbssd(3, 7, 5);
    }
  }
}

STROP_INLINE std::int64_t pair_passes(const PanelBlock& block) {
  return (block.rows + 2 * kTileRows - 1) / (2 * kTileRows);
}

// Calls with_rows.template operator()<kManyRows>(row, rows) for 32 rows of x after another.
template <class WithRows>
STROP_INLINE void for_pair_rows(const PanelBlock& block, PairShapes& shapes, WithRows with_rows) {
  constexpr std::int64_t kRows = 2 * kTileRows;
  const std::int64_t width = tile_width(block.header.stretch);
  for (std::int64_t row = 0; row < block.rows; row += kRows) {
    const std::int64_t left = block.rows - row, rows = left < kRows ? left : kRows;
    shapes.shape(rows, width);
    rows > kTileRows ? with_rows.template operator()<true>(row, rows)
                     : with_rows.template operator()<false>(row, rows);
  }
}

// The sums of a group, which lie in `integers`, to floats.
template <int kPanels>
STROP_INLINE void finish_group(const PanelBlock* blocks, std::int64_t group) {
  for (int panel = 0; panel < kPanels; ++panel) {
    const PanelBlock& block = blocks[panel];
    const bool zeros = !block.header.bytes_less_zero;
    const GroupNumbers numbers(block, group, zeros ? block.task.x_sums : nullptr);
    for (std::int64_t row = 0; row < block.rows; ++row) {
      I32 sum[kRowVectors];
      for (int i = 0; i < kRowVectors; ++i) {
        sum[i] = load_unaligned<I32>(block.integers + row * kPanelRows + i * kLanes);
      }
      numbers.finish(row, sum);
    }
  }
}

// Whether panels are multiplied as they lie, where a row has one scale.
STROP_INLINE bool suits_whole_panels(const CodesHeader& header) {
  return header.store == CodeStore::kBytes && header.groups == 1 && header.masks == 0 &&
         tile_width(header.stretch) == kTileBytes;
}

template <int kPanels>
void multiply_whole_panels(const PanelBlock (&blocks)[2], PairShapes& shapes) {
  constexpr std::int64_t kTile = kTileRows * kTileBytes;
  const std::int64_t tiles = blocks[0].header.panel_bytes() / kTile;
  PairAhead ahead(blocks[0], tiles * pair_passes(blocks[0]));
  for_pair_rows(blocks[0], shapes, [&]<bool kManyRows>(std::int64_t row, std::int64_t) {
    PairRun run = run_of(blocks[0], row, 0);
    run.panels[0] = blocks[0].codes();
    run.panels[1] = blocks[1].codes();
    run.count = tiles;
    clear_pair();
    add_products<kPanels, kManyRows>(run, ahead);
    std::int32_t* const sums[2] = {blocks[0].integers + row * kPanelRows,
                                   blocks[1].integers + row * kPanelRows};
    store_pair<kPanels, kManyRows>(sums);
  });
  finish_group<kPanels>(blocks, 0);
}

// A panel's codes as tiles take them, a chunk of columns after another.
class ChunkedCodes {
 public:
  explicit ChunkedCodes(const PanelBlock& block) : block_(block), codes_(block, block.spread) {}

  STROP_MEMBER const std::uint8_t* take(std::int64_t begin, std::int64_t end) {
    const CodesHeader& header = block_.header;
    const std::uint8_t* codes = codes_.take(begin, end);
    if (header.store == CodeStore::kBytes) return codes;
    std::uint8_t* to = block_.decoded;
    for (std::int64_t k = begin; k < end;) {
      const Segment segment = segment_at(header, k, end);
      const __m512i zeros = zeros_of(segment.group);
      for (; k < segment.end; k += 8, codes += kQuadBytes, to += 2 * kQuadBytes) {
        const auto both = load_unaligned<__m512i>(codes);
        const __m512i low = _mm512_set1_epi8(15);
        store_unaligned(to, _mm512_sub_epi8(_mm512_and_si512(both, low), zeros));
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
        store_unaligned(to + kQuadBytes, _mm512_sub_epi8(high, zeros));
      }
    }
    keep_in_memory(block_.decoded);
    return block_.decoded;
  }

 private:
  // Of four columns of a panel, where they are taken off.
  STROP_MEMBER __m512i zeros_of(std::int64_t group) const {
    const CodesHeader& header = block_.header;
    if (!header.bytes_less_zero) return _mm512_setzero_si512();
    if (header.zeros == 0) return _mm512_set1_epi8(static_cast<char>(header.same_zero));
    const auto zeros = load_unaligned<__m512i>(block_.numbers<std::int32_t>(header.zeros, group));
    return _mm512_mullo_epi32(_mm512_and_si512(zeros, _mm512_set1_epi32(255)),
                              _mm512_set1_epi32(0x01010101));
  }

  const PanelBlock& block_;
  PanelCodes codes_;
};

// Chunks of columns, in groups that may be longer than those.
template <int kPanels>
void multiply_chunks(const PanelBlock (&blocks)[2], PairShapes& shapes) {
  const CodesHeader& header = blocks[0].header;
  ChunkedCodes codes[2] = {ChunkedCodes(blocks[0]), ChunkedCodes(blocks[kPanels - 1])};
  PairAhead ahead(blocks[0], header.places() / tile_width(header.stretch) * pair_passes(blocks[0]));
  for (std::int64_t k = 0; k < header.places(); k += kDecodedColumns) {
    const std::int64_t left = header.places() - k;
    const std::int64_t end = k + (left < kDecodedColumns ? left : kDecodedColumns);
    const std::uint8_t* panels[2] = {};
    for (int panel = 0; panel < kPanels; ++panel) panels[panel] = codes[panel].take(k, end);
    for (std::int64_t place = k; place < end;) {
      const Segment segment = segment_at(header, place, end);
      for_pair_rows(blocks[0], shapes, [&]<bool kManyRows>(std::int64_t row, std::int64_t) {
        PairRun run = run_of(blocks[0], row, place);
        for (int panel = 0; panel < kPanels; ++panel) {
          run.panels[panel] = panels[panel] + (place - k) * kPanelRows;
        }
        run.count = (segment.end - place) / run.width;
        std::int32_t* const sums[2] = {blocks[0].integers + row * kPanelRows,
                                       blocks[1].integers + row * kPanelRows};
        segment.starts ? clear_pair() : load_pair<kPanels, kManyRows>(sums);
        add_products<kPanels, kManyRows>(run, ahead);
        store_pair<kPanels, kManyRows>(sums);
      });
      if (segment.ends) finish_group<kPanels>(blocks, segment.group);
      place = segment.end;
    }
  }
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
