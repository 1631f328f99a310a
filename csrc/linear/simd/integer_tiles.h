#pragma once

// Products of integers by AMX. Compiled once per instruction set; there is nothing here for sets
// without AMX.

#include "linear/simd/integer_sums.h"
#include "linear/simd/tiles.h"

#if defined(STROP_TILES)

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

STROP_INLINE bool suits_tiles(const PanelBlock& block) {
  return block.rows >= kMinTileRows && tile_width(block.header.stretch) != 0;
}

template <bool kSignedX>
void multiply_by_tiles(const PanelBlock& block, const Stretch<std::uint8_t>& stretch) {
  constexpr auto kProducts = kSignedX ? TileProducts::kSignedX : TileProducts::kUnsignedX;
  const std::int64_t width = tile_width(block.header.stretch), apart = block.header.places();
  shape_tiles(width, block.rows % kTileRows);
  const auto* const x = static_cast<const std::uint8_t*>(block.task.x) + block.row * apart;
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(block.header, k, stretch.end);
    const TileRun run = {.x = x + k,
                         .apart = apart,
                         .panel = stretch.codes + (k - stretch.begin) * kPanelRows,
                         .width = width,
                         .count = (segment.end - k) / width};
    const auto loaded = [](const std::uint8_t* sums, I32(&sum)[kRowVectors]) STROP_UNROLLED {
      for (int i = 0; i < kRowVectors; ++i) sum[i] = load_unaligned<I32>(sums + i * kVectorBytes);
    };
    if (segment.starts && segment.ends) {
      const GroupNumbers numbers(block, segment.group);
      sum_tiles<kProducts>(run, block.rows,
                           [&](std::int64_t row, const std::uint8_t* sums) STROP_UNROLLED {
                             I32 sum[kRowVectors];
                             loaded(sums, sum);
                             numbers.finish(row, sum);
                           });
    } else {
      sum_tiles<kProducts>(run, block.rows,
                           [&](std::int64_t row, const std::uint8_t* sums) STROP_UNROLLED {
                             I32 sum[kRowVectors];
                             loaded(sums, sum);
                             add_segment(block, row, segment, sum);
                           });
    }
    k = segment.end;
  }
  _tile_release();
}

// Whether panels are multiplied in pairs, as they lie: where a row has one scale.
STROP_INLINE bool suits_tile_pairs(const CodesTask& task) {
  const CodesHeader& header = task.args.header();
  return task.args.rows >= kMinTileRows && header.store == CodeStore::kBytes &&
         header.groups == 1 && header.masks == 0 && tile_width(header.stretch) == kTileBytes;
}

// Rows of x in tiles: of up to 16 rows, 64 columns after another.
struct TiledCodes {
  const CodesTask& task;

  // Of the tile that a row is in.
  STROP_MEMBER std::int64_t rows(std::int64_t row) const {
    const std::int64_t left = task.args.rows - row / kTileRows * kTileRows;
    return left < kTileRows ? left : kTileRows;
  }
  STROP_MEMBER std::uint8_t* at(std::int64_t row) const {
    const std::int64_t first = row / kTileRows * kTileRows;
    return static_cast<std::uint8_t*>(task.x) + first * task.args.header().places() +
           row % kTileRows * kTileBytes;
  }
  // Where a row is put in order first: x has two bytes for each code.
  STROP_MEMBER std::uint8_t* in_order(std::int64_t row) const {
    return static_cast<std::uint8_t*>(task.x) +
           (task.args.rows + row) * task.args.header().places();
  }
  STROP_MEMBER void place(std::int64_t row) const {
    const std::uint8_t* const from = in_order(row);
    std::uint8_t* to = at(row);
    for (std::int64_t k = 0; k < task.args.header().places(); k += kTileBytes) {
      store_unaligned(to, load_unaligned<__m512i>(from + k));
      to += rows(row) * kTileBytes;
    }
  }
};

// Up to 32 rows from `row` on, times one panel or two.
template <bool kSignedX, int kPanels, bool kManyRows>
void multiply_pair(const PanelBlock (&blocks)[2], std::int64_t row) {
  constexpr auto kProducts = kSignedX ? TileProducts::kSignedX : TileProducts::kUnsignedX;
  constexpr std::int64_t kTile = kTileRows * kTileBytes;
  const std::uint8_t* const panels[2] = {blocks[0].codes(), blocks[1].codes()};
  const std::int64_t first = blocks[0].row + row, second = first + (kManyRows ? kTileRows : 0);
  const TiledCodes rows = {blocks[0].task};
  const std::uint8_t* x[2] = {rows.at(first), rows.at(second)};
  const std::int64_t bytes[2] = {rows.rows(first) * kTileBytes, rows.rows(second) * kTileBytes};
  // The next pair of panels comes to the second cache while rows are multiplied with this one.
  const std::int64_t passes = (blocks[0].rows + 2 * kTileRows - 1) / (2 * kTileRows);
  const std::int64_t lines = (2 * kTile / 64 + passes - 1) / passes;  // a step
  const std::uint8_t* ahead =
      panels[0] + 2 * blocks[0].header.panel_bytes() +
      row / (2 * kTileRows) * lines * 64 * (blocks[0].header.panel_bytes() / kTile);
  clear_pair();
  for (std::int64_t at = 0; at < blocks[0].header.panel_bytes(); at += kTile) {
    for (const std::uint8_t* const end = ahead + lines * 64; ahead < end; ahead += 64) {
      _mm_prefetch(ahead, _MM_HINT_T1);
    }
    _tile_loadd(4, panels[0] + at, kTileBytes);
    if constexpr (kPanels == 2) _tile_loadd(5, panels[1] + at, kTileBytes);
    _tile_loadd(6, x[0], kTileBytes);
    x[0] += bytes[0];
    STROP_MULTIPLY_TILES(0, 6, 4)
    if constexpr (kPanels == 2) {
      STROP_MULTIPLY_TILES(1, 6, 5)
    }
    if constexpr (kManyRows) {
      _tile_loadd(7, x[1], kTileBytes);
      x[1] += bytes[1];
      STROP_MULTIPLY_TILES(2, 7, 4)
      if constexpr (kPanels == 2) {
        STROP_MULTIPLY_TILES(3, 7, 5)
      }
    }
  }
  std::int32_t* const sums[2] = {blocks[0].integers + row * kPanelRows,
                                 blocks[1].integers + row * kPanelRows};
  store_pair<kPanels, kManyRows>(sums);
}

template <bool kSignedX, int kPanels>
void multiply_pairs(PanelBlock (&blocks)[2], PairShapes& shapes) {
  constexpr std::int64_t kRows = 2 * kTileRows;
  for (std::int64_t row = 0; row < blocks[0].rows; row += kRows) {
    const std::int64_t left = blocks[0].rows - row;
    shapes.shape(left < kRows ? left : kRows);
    left > kTileRows ? multiply_pair<kSignedX, kPanels, true>(blocks, row)
                     : multiply_pair<kSignedX, kPanels, false>(blocks, row);
  }
  for (int panel = 0; panel < kPanels; ++panel) {
    const PanelBlock& block = blocks[panel];
    const GroupNumbers numbers(block, 0);
    for (std::int64_t row = 0; row < block.rows; ++row) {
      I32 sum[kRowVectors];
      for (int i = 0; i < kRowVectors; ++i) {
        sum[i] = load_unaligned<I32>(block.integers + row * kPanelRows + i * kLanes);
      }
      numbers.finish(row, sum);
    }
  }
  put_blocks<kPanels>(blocks);
}

template <bool kSignedX>
void multiply_by_tile_pairs(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                            std::int64_t end) {
  for_panel_pairs(task, scratch, begin, end,
                  [](PanelBlock(&blocks)[2], int count, PairShapes& shapes) STROP_UNROLLED {
                    // (no group has parts, whose sums would be there)
                    auto* const second = reinterpret_cast<std::int32_t*>(blocks[0].wide);
                    blocks[1].integers = second;
                    blocks[1].floats =
                        reinterpret_cast<float*>(second + kCodesRowBlock * kPanelRows);
                    count == 2 ? multiply_pairs<kSignedX, 2>(blocks, shapes)
                               : multiply_pairs<kSignedX, 1>(blocks, shapes);
                  });
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
