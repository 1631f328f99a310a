#pragma once

// What becomes tiles of bfloat16: the values that a mask keeps, and codes. Compiled once per
// instruction set; there is nothing here for sets without AMX.

#include "linear/simd/decode.h"
#include "linear/simd/spread.h"
#include "linear/simd/tiles.h"

#if defined(__AMX_BF16__)

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr int kTileColumns = 32;
inline constexpr std::int64_t kTileWords = kTileColumns * kPanelRows / kWordCodes;

// Whether nothing is kept of a tile.
STROP_INLINE bool is_empty(const std::uint64_t* masks) {
  static_assert(kTileWords * 8 == kVectorBytes);
  const auto words = load_unaligned<__m512i>(masks);
  return _mm512_test_epi64_mask(words, words) == 0;
}

// The tiles of a panel, one after another: put() writes the next one, and says whether it has
// anything. Here of the values that a mask keeps.
class KeptTiles {
 public:
  explicit KeptTiles(const PanelBlock& block) : kept_(kept_of(block)) {}

  STROP_MEMBER bool put(std::uint8_t* to) {
    if (is_empty(kept_.masks)) {
      kept_.masks += kTileWords;
      return false;
    }
    prefetch(reinterpret_cast<const std::uint8_t*>(kept_.masks) + kAhead / 2);
    for (int word = 0; word < kTileWords; ++word) {
      prefetch(kept_.codes + kAhead);
      spread_values(kept_, to + word * 2 * kWordCodes);
    }
    return true;
  }

 private:
  Kept kept_;
};

// The same of codes.
template <class Decoder>
class DecodedTiles {
 public:
  explicit DecodedTiles(const PanelBlock& block)
      : block_(block), decoder_(block.header), codes_(block, block.decoded) {}

  STROP_MEMBER bool put(std::uint8_t* to) {
    for (int half = 0; half < 2; ++half, to += kTileBytes * kGroupUnit / 2) {
      if (place_ < block_.header.places()) {
        put_half(to);
        place_ += kGroupUnit;
      } else {
        std::memset(to, 0, kTileBytes * kGroupUnit / 2);
      }
    }
    return true;
  }

 private:
  static constexpr int kSteps = 2 / Decoder::kColumns;  // for two columns

  STROP_MEMBER void put_half(std::uint8_t* to) {
    const CodesHeader& header = block_.header;
    const std::int64_t group = place_ / header.stretch;
    const auto number = [&](std::int64_t place) STROP_UNROLLED {
      return load_unaligned<F32>(block_.numbers<float>(place, group));
    };
    const F32 scale = number(header.scales);
    const F32 zero =
        header.zeros != 0 ? number(header.zeros) : broadcast(static_cast<float>(header.same_zero));
    const F32 whole_scale = scale * broadcast(decoder_.factor());  // (a power of two)
    const std::uint8_t* from = codes_.take(place_, place_ + kGroupUnit);
    for (std::int64_t at = 0; at < header.bytes_of(kGroupUnit); at += 64) {
      prefetch(from + at + kAhead);
    }
    for (int pair = 0; pair < kGroupUnit / 2; ++pair, to += kTileBytes) {
      F32 values[kSteps][Decoder::kColumns][1];
      for (int step = 0; step < kSteps; ++step, from += Decoder::kBytes) {
        decoder_.decode(from, values[step]);
      }
      F32 even = values[0][0][0], odd = values[kSteps - 1][Decoder::kColumns - 1][0];
      if constexpr (Decoder::kZero) {
        even -= zero;
        odd -= zero;
      }
      store_unaligned(to, rounded_pairs(even * whole_scale, odd * whole_scale));
    }
  }
  static STROP_MEMBER __m512i rounded_pairs(F32 even, F32 odd) {
    const __m512i in_turns =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const auto both = bit_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
    return _mm512_permutexvar_epi16(in_turns, both);
  }

  const PanelBlock& block_;
  Decoder decoder_;
  PanelCodes codes_;
  std::int64_t place_ = 0;
};

}  // namespace strop::linear::simd::STROP_ISA

#endif
