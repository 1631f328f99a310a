#pragma once

// Products of few rows of integers with codes that a mask keeps, which are spread in registers: the
// weight is read once. Compiled once per instruction set; there is nothing here for those that do
// not expand bytes and multiply fours of them.
//
// 64 bytes take VPEXPANDB two cycles of a port, and their mask one more to get where it is wanted;
// a product of 64 by a row one cycle of the other port.

#include "linear/simd/integer_sums.h"
#include "linear/simd/spread.h"

#if defined(__AVX512VBMI2__) && defined(__AVX512VNNI__)
#define STROP_KEPT_DOTS

#include "linear/simd/fours.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr int kMaxKeptRows = 8;

STROP_INLINE bool suits_kept_dots(const PanelBlock& block) {
  return block.header.masks != 0 && block.rows <= kMaxKeptRows;
}

// Four columns of a panel, one after another: signed bytes, or unsigned nibbles.
template <bool kNibbles>
STROP_INLINE I32 next_four(Kept& kept, const Fill& fill) {
  kept.fetch();
  if constexpr (kNibbles) {
    return bit_cast<I32>(spread_nibbles(kept, fill)) & broadcast(0x0f0f0f0f);
  } else {
    return bit_cast<I32>(spread_bytes(kept, fill));
  }
}

template <int kRows, bool kNibbles>
void multiply_kept_rows(const PanelBlock& block) {
  constexpr int kChains = chains_of(kRows);
  constexpr bool kSignedX = kNibbles || kFoursOfSigned;
  const std::int64_t places = block.header.places();
  const auto* const x = static_cast<const std::uint8_t*>(block.task.x) + block.row * places;
  Kept kept = kept_of(block);
  Fill fill(block, 0);
  for (std::int64_t k = 0; k < places;) {
    const Segment segment = segment_at(block.header, k, places);
    if (block.header.fills != 0) fill = Fill(block, segment.group);
    I32 sum[kRows][kChains][kRowVectors] = {};
    for (; k < segment.end; k += 4 * kChains) {
      unrolled<kChains>([&](auto c) STROP_UNROLLED {
        const I32 codes = next_four<kNibbles>(kept, fill);
        unrolled<kRows>([&](auto r) STROP_UNROLLED {
          const I32 four = spread_four(x + r * places + k + 4 * c);
          sum[r][c][0] = add_fours<kSignedX>(sum[r][c][0], codes, four);
        });
      });
    }
    I32 total[kRows][kRowVectors];
    add_chains<kRows, kChains>(sum, total);
    add_segment(block, 0, segment, total);
  }
}

template <int kRows = kMaxKeptRows>
STROP_INLINE void multiply_kept_dots(const PanelBlock& block) {
  if (block.rows == kRows) {
    return block.header.store == CodeStore::kNibbles ? multiply_kept_rows<kRows, true>(block)
                                                     : multiply_kept_rows<kRows, false>(block);
  }
  if constexpr (kRows > 1) multiply_kept_dots<kRows - 1>(block);
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
