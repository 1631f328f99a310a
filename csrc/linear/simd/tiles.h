#pragma once

// Products of integers by AMX: 16 rows of x times up to 64 columns of a panel an instruction.
// Compiled once per instruction set; there is nothing here for sets without AMX.

#include "linear/simd/integer_sums.h"

#if defined(__AMX_INT8__)
#define STROP_TILES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;   // of a row of a tile
inline constexpr int kMinTileRows = 8;  // of x, that are worth one

// Tiles 0 to 3 are sums, 4 is x, 5 the panel; 6 and 7 are sums and x of the last rows, fewer than
// 16.
class TileShapes {
 public:
  TileShapes(std::int64_t columns, std::int64_t last_rows) {
    for (int tile = 0; tile < 8; ++tile) {
      const bool last = tile >= 6;
      const std::int64_t rows = tile == 5 ? columns / 4 : last ? last_rows : kTileRows;
      shapes_.rows[tile] = static_cast<std::uint8_t>(rows > 0 ? rows : 1);
      const bool x = tile == 4 || tile == 7;
      shapes_.bytes[tile] = static_cast<std::uint16_t>(x ? columns : kTileBytes);
    }
    _tile_loadconfig(&shapes_);
  }
  ~TileShapes() { _tile_release(); }
  TileShapes(const TileShapes&) = delete;
  TileShapes& operator=(const TileShapes&) = delete;

 private:
  struct alignas(64) {
    std::uint8_t palette = 1;
    std::uint8_t start = 0;
    std::uint8_t unused[14] = {};
    std::uint16_t bytes[16] = {};
    std::uint8_t rows[16] = {};
  } shapes_;
};

// Columns of a tile, of which a group has whole ones; 0 where it has not.
STROP_INLINE std::int64_t tile_columns(const CodesHeader& header) {
  return header.stretch % 64 == 0 ? 64 : header.stretch % 32 == 0 ? 32 : 0;
}
STROP_INLINE bool suits_tiles(const PanelBlock& block) {
  return block.rows >= kMinTileRows && tile_columns(block.header) != 0;
}

// (the numbers of tiles are part of instructions)
#define STROP_MULTIPLY_TILES(sum, x) \
  if constexpr (kSignedX) {          \
    _tile_dpbsud(sum, x, 5);         \
  } else {                           \
    _tile_dpbusd(sum, x, 5);         \
  }

// Sums of 16 rows of x, from `row` on.
STROP_INLINE void add_tile(const PanelBlock& block, std::int64_t row, std::int64_t rows,
                           const Segment& segment, const std::int32_t* tile) {
  for (std::int64_t r = 0; r < rows; ++r) {
    I32 sum[kRowVectors];
    for (int i = 0; i < kRowVectors; ++i) {
      sum[i] = load_unaligned<I32>(tile + r * kPanelRows + i * kLanes);
    }
    add_segment(block, row + r, segment, sum);
  }
}

// What one segment takes of x and of the panel.
struct TileRun {
  const std::uint8_t* x;  // of the block's first row
  std::int64_t apart;     // rows of x
  const std::uint8_t* codes;
  std::int64_t columns;  // of a tile
  std::int64_t count;    // of tiles, side by side
};

template <bool kSignedX>
STROP_INLINE void sum_four(const TileRun& run, std::int64_t row, std::int32_t* to) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::uint8_t* x = run.x + row * run.apart;
  const std::uint8_t* codes = run.codes;
  const std::int64_t next = kTileRows * run.apart;
  for (std::int64_t i = 0; i < run.count; ++i) {
    _tile_loadd(5, codes, kTileBytes);
    _tile_loadd(4, x, run.apart);
    STROP_MULTIPLY_TILES(0, 4)
    _tile_loadd(4, x + next, run.apart);
    STROP_MULTIPLY_TILES(1, 4)
    _tile_loadd(4, x + 2 * next, run.apart);
    STROP_MULTIPLY_TILES(2, 4)
    _tile_loadd(4, x + 3 * next, run.apart);
    STROP_MULTIPLY_TILES(3, 4)
    x += run.columns;
    codes += run.columns * kPanelRows;
  }
  constexpr int kTile = kTileRows * kPanelRows;
  _tile_stored(0, to, kTileBytes);
  _tile_stored(1, to + kTile, kTileBytes);
  _tile_stored(2, to + 2 * kTile, kTileBytes);
  _tile_stored(3, to + 3 * kTile, kTileBytes);
}

template <bool kSignedX>
STROP_INLINE void sum_one(const TileRun& run, std::int64_t row, std::int32_t* to) {
  _tile_zero(0);
  for (std::int64_t i = 0; i < run.count; ++i) {
    _tile_loadd(5, run.codes + i * run.columns * kPanelRows, kTileBytes);
    _tile_loadd(4, run.x + row * run.apart + i * run.columns, run.apart);
    STROP_MULTIPLY_TILES(0, 4)
  }
  _tile_stored(0, to, kTileBytes);
}

template <bool kSignedX>
STROP_INLINE void sum_last(const TileRun& run, std::int64_t row, std::int32_t* to) {
  _tile_zero(6);
  for (std::int64_t i = 0; i < run.count; ++i) {
    _tile_loadd(5, run.codes + i * run.columns * kPanelRows, kTileBytes);
    _tile_loadd(7, run.x + row * run.apart + i * run.columns, run.apart);
    STROP_MULTIPLY_TILES(6, 7)
  }
  _tile_stored(6, to, kTileBytes);
}

#undef STROP_MULTIPLY_TILES

template <bool kSignedX>
void multiply_by_tiles(const PanelBlock& block, const Stretch<std::uint8_t>& stretch) {
  const std::int64_t columns = tile_columns(block.header), apart = block.header.places();
  const TileShapes shapes(columns, block.rows % kTileRows);
  alignas(64) std::int32_t sums[4 * kTileRows * kPanelRows];
  const auto* const x = static_cast<const std::uint8_t*>(block.task.x) + block.row * apart;
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(block.header, k, stretch.end);
    const TileRun run = {.x = x + k,
                         .apart = apart,
                         .codes = stretch.codes + (k - stretch.begin) * kPanelRows,
                         .columns = columns,
                         .count = (segment.end - k) / columns};
    std::int64_t row = 0;
    for (; block.rows - row >= 4 * kTileRows; row += 4 * kTileRows) {
      sum_four<kSignedX>(run, row, sums);
      add_tile(block, row, 4 * kTileRows, segment, sums);
    }
    for (; block.rows - row >= kTileRows; row += kTileRows) {
      sum_one<kSignedX>(run, row, sums);
      add_tile(block, row, kTileRows, segment, sums);
    }
    if (row < block.rows) {
      sum_last<kSignedX>(run, row, sums);
      add_tile(block, row, block.rows - row, segment, sums);
    }
    k = segment.end;
  }
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
