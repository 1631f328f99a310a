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
    sum_tiles<kProducts>(run, block.rows,
                         [&](std::int64_t row, const std::uint8_t* sums) STROP_UNROLLED {
                           I32 sum[kRowVectors];
                           for (int i = 0; i < kRowVectors; ++i)
                             sum[i] = load_unaligned<I32>(sums + i * kVectorBytes);
                           add_segment(block, row, segment, sum);
                         });
    k = segment.end;
  }
  _tile_release();
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
