#pragma once

// Products by AMX: 16 rows of x times up to 64 bytes of a panel's rows an instruction. Compiled
// once per instruction set; there is nothing here for sets without AMX.
//
// An instruction takes the unit 16 cycles, for 16 x 16 sums of 64 columns of bytes or 32 of
// bfloat16. Four tiles of x share a load of the panel's, so that five loads of 8 cycles each go
// with 64 of products.

#include "core/simd/unroll.h"
#include "linear/simd/panel_rows.h"

#if defined(__AMX_INT8__)
#define STROP_TILES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr int kTileRows = 16;
inline constexpr int kTileBytes = 64;   // of a row of a tile
inline constexpr int kMinTileRows = 8;  // of x, that are worth one

// As the processor reads them.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start = 0;
  std::uint8_t unused[14] = {};
  std::uint16_t bytes[16] = {};  // of a row
  std::uint8_t rows[16] = {};
};

// Tiles 0 to 3 are sums, 4 is x, 5 the panel; 6 and 7 are sums and x of the last rows, fewer than
// 16. Rows of x have `width` bytes each. To be followed by _tile_release() (a destructor that does
// it would need tables of exceptions, of which all sets would share a symbol).
STROP_INLINE void shape_tiles(std::int64_t width, std::int64_t last_rows) {
  TileShapes shapes;
  for (int tile = 0; tile < 8; ++tile) {
    const bool last = tile >= 6;
    const std::int64_t rows = tile == 5 ? width / 4 : last ? last_rows : kTileRows;
    shapes.rows[tile] = static_cast<std::uint8_t>(rows > 0 ? rows : 1);
    const bool x = tile == 4 || tile == 7;
    shapes.bytes[tile] = static_cast<std::uint16_t>(x ? width : kTileBytes);
  }
  _tile_loadconfig(&shapes);
}

// Bytes of a row of x that a tile takes, of which a group's `bytes` are a multiple; 0: of none.
STROP_INLINE std::int64_t tile_width(std::int64_t bytes) {
  return bytes % 64 == 0 ? 64 : bytes % 32 == 0 ? 32 : 0;
}

enum class TileProducts { kSignedX, kUnsignedX };

// (the numbers of tiles are part of instructions)
#define STROP_MULTIPLY_TILES(sum, x, panel)            \
  if constexpr (kProducts == TileProducts::kSignedX) { \
    _tile_dpbsud(sum, x, panel);                       \
  } else {                                             \
    _tile_dpbusd(sum, x, panel);                       \
  }

// What one segment takes of x and of the panel.
struct TileRun {
  const std::uint8_t* x;  // of the block's first row
  std::int64_t apart;     // rows of x, in bytes
  const std::uint8_t* panel;
  std::int64_t width;  // of a tile of x
  std::int64_t count;  // of those, side by side

  STROP_MEMBER std::int64_t panel_tile() const { return width * kPanelRows; }
};

template <TileProducts kProducts>
STROP_INLINE void sum_four(const TileRun& run, std::int64_t row, void* to) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const std::uint8_t* x = run.x + row * run.apart;
  const std::uint8_t* panel = run.panel;
  const std::int64_t next = kTileRows * run.apart;
  for (std::int64_t i = 0; i < run.count; ++i, x += run.width, panel += run.panel_tile()) {
    _tile_loadd(5, panel, kTileBytes);
    _tile_loadd(4, x, run.apart);
    STROP_MULTIPLY_TILES(0, 4, 5)
    _tile_loadd(4, x + next, run.apart);
    STROP_MULTIPLY_TILES(1, 4, 5)
    _tile_loadd(4, x + 2 * next, run.apart);
    STROP_MULTIPLY_TILES(2, 4, 5)
    _tile_loadd(4, x + 3 * next, run.apart);
    STROP_MULTIPLY_TILES(3, 4, 5)
  }
  constexpr int kTile = kTileRows * kTileBytes;
  auto* const bytes = static_cast<std::uint8_t*>(to);
  _tile_stored(0, bytes, kTileBytes);
  _tile_stored(1, bytes + kTile, kTileBytes);
  _tile_stored(2, bytes + 2 * kTile, kTileBytes);
  _tile_stored(3, bytes + 3 * kTile, kTileBytes);
}

template <TileProducts kProducts>
STROP_INLINE void sum_one(const TileRun& run, std::int64_t row, void* to) {
  _tile_zero(0);
  const std::uint8_t* x = run.x + row * run.apart;
  const std::uint8_t* panel = run.panel;
  for (std::int64_t i = 0; i < run.count; ++i, x += run.width, panel += run.panel_tile()) {
    _tile_loadd(4, x, run.apart);
    _tile_loadd(5, panel, kTileBytes);
    STROP_MULTIPLY_TILES(0, 4, 5)
  }
  _tile_stored(0, to, kTileBytes);
}

template <TileProducts kProducts>
STROP_INLINE void sum_last(const TileRun& run, std::int64_t row, void* to) {
  _tile_zero(6);
  const std::uint8_t* x = run.x + row * run.apart;
  const std::uint8_t* panel = run.panel;
  for (std::int64_t i = 0; i < run.count; ++i, x += run.width, panel += run.panel_tile()) {
    _tile_loadd(7, x, run.apart);
    _tile_loadd(5, panel, kTileBytes);
    STROP_MULTIPLY_TILES(6, 7, 5)
  }
  _tile_stored(6, to, kTileBytes);
}

// Calls take(row, sums) for each of a block's rows, with its sums over the segment, 4 bytes each.
template <TileProducts kProducts, class Take>
STROP_INLINE void sum_tiles(const TileRun& run, std::int64_t rows, Take take) {
  alignas(64) std::uint8_t sums[4 * kTileRows * kTileBytes];
  std::int64_t row = 0;
  const auto take_all = [&](std::int64_t count) STROP_UNROLLED {
    for (std::int64_t r = 0; r < count; ++r) take(row + r, sums + r * kTileBytes);
    row += count;
  };
  while (rows - row >= 4 * kTileRows) {
    sum_four<kProducts>(run, row, sums);
    take_all(4 * kTileRows);
  }
  while (rows - row >= kTileRows) {
    sum_one<kProducts>(run, row, sums);
    take_all(kTileRows);
  }
  if (row == rows) return;
  sum_last<kProducts>(run, row, sums);
  take_all(rows - row);
}

// Of two panels by 32 rows of x, whose operands are loaded twice for four products: tiles 0 to 3
// are sums, 4 and 5 the panels', 6 and 7 rows of x.
class PairShapes {
 public:
  // Of up to 32 rows.
  STROP_MEMBER void shape(std::int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    TileShapes shapes;
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

STROP_INLINE void clear_pair() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// The sums of up to 32 rows, of one panel or two; kManyRows: more than 16.
template <int kPanels, bool kManyRows, class T>
STROP_INLINE void store_pair(T* const (&sums)[2]) {
  constexpr std::int64_t kNext = kTileRows * kPanelRows;  // those of the second tile of rows
  _tile_stored(0, sums[0], kTileBytes);
  if constexpr (kPanels == 2) _tile_stored(1, sums[1], kTileBytes);
  if constexpr (kManyRows) _tile_stored(2, sums[0] + kNext, kTileBytes);
  if constexpr (kManyRows && kPanels == 2) _tile_stored(3, sums[1] + kNext, kTileBytes);
}

// Calls multiply(blocks, count, shapes) for blocks of rows x panels [begin, end), two panels of the
// same rows at a time.
template <class Multiply>
STROP_INLINE void for_panel_pairs(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                                  std::int64_t end, Multiply multiply) {
  PairShapes shapes;
  for_blocks<2>(task, scratch, begin, end, [&](PanelBlock(&blocks)[2], int count) STROP_UNROLLED {
    multiply(blocks, count, shapes);
  });
  _tile_release();
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
