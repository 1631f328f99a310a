#pragma once

// Products by AMX: 16 rows of x times up to 64 bytes of a panel's rows an instruction. Compiled
// once per instruction set; there is nothing here for sets without AMX.
//
// An instruction takes the unit 16 cycles, for 16 x 16 sums of 64 columns of bytes or 32 of
// bfloat16. Two panels by two tiles of x are loaded for four products.

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

// Bytes of a row of x that a tile takes, of which a group's `bytes` are a multiple.
STROP_INLINE std::int64_t tile_width(std::int64_t bytes) {
  return bytes % 64 == 0 ? 64 : bytes % 32 == 0 ? 32 : kGroupUnit;
}

// Of two panels by 32 rows of x, whose operands are loaded twice for four products: tiles 0 to 3
// are sums, 4 and 5 the panels', 6 and 7 rows of x. To be followed by _tile_release() (a destructor
// that does it would need tables of exceptions, of which all sets would share a symbol).
class PairShapes {
 public:
  // Of up to 32 rows of x, which have `width` bytes each; a task has the same width throughout.
  STROP_MEMBER void shape(std::int64_t rows, std::int64_t width = kTileBytes) {
    const std::int64_t first = rows < kTileRows ? rows : kTileRows;
    shape_each(first, rows > kTileRows ? rows - kTileRows : 1, width);
  }
  // Of both tiles of x.
  STROP_MEMBER void shape_each(std::int64_t first, std::int64_t second, std::int64_t width) {
    if (!changes(first, second)) return;
    TileShapes shapes;
    for (int tile = 0; tile < 8; ++tile) {
      const bool of_panel = tile == 4 || tile == 5;
      shapes.bytes[tile] = static_cast<std::uint16_t>(tile >= 6 ? width : kTileBytes);
      shapes.rows[tile] = static_cast<std::uint8_t>(of_panel          ? width / 4
                                                    : of_second(tile) ? second
                                                                      : first);
    }
    load(shapes);
  }
  // Where rows of x are columns of tiles, four bytes wide.
  STROP_MEMBER void shape_columns(std::int64_t rows) {
    const std::int64_t first = rows < kTileRows ? rows : kTileRows;
    const std::int64_t second = rows > kTileRows ? rows - kTileRows : 1;
    if (!changes(first, second)) return;
    TileShapes shapes;
    for (int tile = 0; tile < 8; ++tile) {
      const bool of_panel = tile == 4 || tile == 5;
      shapes.rows[tile] = kTileRows;
      shapes.bytes[tile] = static_cast<std::uint16_t>(of_panel          ? kTileBytes
                                                      : of_second(tile) ? second * 4
                                                                        : first * 4);
    }
    load(shapes);
  }

 private:
  static STROP_MEMBER bool of_second(int tile) { return tile == 2 || tile == 3 || tile == 7; }
  STROP_MEMBER bool changes(std::int64_t first, std::int64_t second) {
    const std::int64_t rows = first + second * kTileRows;
    const bool other = rows != rows_;
    rows_ = rows;
    return other;
  }
  static STROP_MEMBER void load(const TileShapes& shapes) {
    keep_in_memory(&shapes);
    _tile_loadconfig(&shapes);
  }

  std::int64_t rows_ = -1;
};

STROP_INLINE void clear_pair() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Sums of up to 32 rows, of one panel or two; kManyRows: more than 16.
template <int kPanels, bool kManyRows, class T>
STROP_INLINE void load_pair(T* const (&sums)[2]) {
  constexpr std::int64_t kNext = kTileRows * kPanelRows;  // those of the second tile of rows
  _tile_loadd(0, sums[0], kTileBytes);
  if constexpr (kPanels == 2) _tile_loadd(1, sums[1], kTileBytes);
  if constexpr (kManyRows) _tile_loadd(2, sums[0] + kNext, kTileBytes);
  if constexpr (kManyRows && kPanels == 2) _tile_loadd(3, sums[1] + kNext, kTileBytes);
}
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
  for_blocks<2, true>(task, scratch, begin, end,
                      [&](PanelBlock(&blocks)[2], int count)
                          STROP_UNROLLED { multiply(blocks, count, shapes); });
  _tile_release();
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
