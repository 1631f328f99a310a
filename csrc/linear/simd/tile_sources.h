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
  static constexpr bool kOfRows = false;
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
  static constexpr bool kOfRows = false;
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

// Nibbles in tiles that have a row of the weight in each row, where all 32 columns are in one
// group: what a row's 16 codes stand for is one register, which a permutation looks up for a whole
// row of a tile. Its columns are in an order of their own, that of x as well.
class RowTiles {
 public:
  static constexpr bool kOfRows = true;

  explicit RowTiles(const PanelBlock& block) : block_(block), codes_(block, block.decoded) {
    fill_table(block.header, values_);
  }

  STROP_MEMBER bool put(std::uint8_t* to) {
    const CodesHeader& header = block_.header;
    const std::int64_t group = place_ / header.stretch;
    if (group != group_) fill_tables(group);
    group_ = group;
    turn(codes_.take(place_, place_ + kTileColumns));
    place_ += kTileColumns;
    // (nibbles 0 to 3 of each 16 bits, a quarter of the register each)
    const __m512i shifts =
        _mm512_slli_epi16(_mm512_cvtepi8_epi16(_mm256_set_epi64x(
                              0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0)),
                          2);
    unrolled<kPanelRows>([&](auto row) STROP_UNROLLED {
      const auto codes = _mm512_broadcast_i32x4(load_unaligned<__m128i>(rows_ + row * 16));
      const auto table = _mm512_broadcast_i64x4(load_unaligned<__m256i>(tables_ + row * 32));
      // (by the low five bits, of which both halves of the table have four)
      store_unaligned(to + row * kTileBytes,
                      _mm512_permutexvar_epi16(_mm512_srlv_epi16(codes, shifts), table));
    });
    return true;
  }

  // The column, of 32, at a place of a row.
  static constexpr int column_of(int place) {
    const int nibble = place / 8, word = place % 8;
    const int pair = 4 * (2 * (word % 2) + nibble / 2) + word / 2;
    return 2 * pair + nibble % 2;
  }

 private:
  // As dequantize rounds them.
  STROP_MEMBER void fill_tables(std::int64_t group) {
    const CodesHeader& header = block_.header;
    const auto values = load_unaligned<F32>(values_);
    const float* const scale = block_.numbers<float>(header.scales, group);
    const float* const zero = block_.numbers<float>(header.zeros, group);
    for (int row = 0; row < kPanelRows; ++row) {
      const F32 each = header.zeros != 0 ? values - broadcast_from(zero + row) : values;
      const auto rounded = _mm512_cvtneps_pbh(bit_cast<__m512>(each * broadcast_from(scale + row)));
      store_unaligned(tables_ + row * 32, bit_cast<__m256i>(rounded));
    }
  }

  // 16 pairs of columns of 16 rows, each pair a byte: to 16 bytes of each row.
  STROP_MEMBER void turn(const std::uint8_t* from) {
    __m512i pairs[4];
    for (int i = 0; i < 4; ++i) {
      prefetch(from + i * 64 + kAhead);
      pairs[i] = load_unaligned<__m512i>(from + i * 64);
    }
    const __m512i first[2] = {_mm512_unpacklo_epi8(pairs[0], pairs[1]),
                              _mm512_unpackhi_epi8(pairs[0], pairs[1])};
    const __m512i second[2] = {_mm512_unpacklo_epi8(pairs[2], pairs[3]),
                               _mm512_unpackhi_epi8(pairs[2], pairs[3])};
    const __m512i by_lanes =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    for (int half = 0; half < 2; ++half) {
      const __m512i low = _mm512_unpacklo_epi16(first[half], second[half]);
      const __m512i high = _mm512_unpackhi_epi16(first[half], second[half]);
      store_unaligned(rows_ + half * 128, _mm512_permutexvar_epi32(by_lanes, low));
      store_unaligned(rows_ + half * 128 + 64, _mm512_permutexvar_epi32(by_lanes, high));
    }
  }

  const PanelBlock& block_;
  PanelCodes codes_;
  std::int64_t place_ = 0, group_ = -1;
  alignas(64) float values_[16];
  alignas(64) std::uint8_t tables_[kPanelRows * 32];
  alignas(64) std::uint8_t rows_[kPanelRows * 16];
};

}  // namespace strop::linear::simd::STROP_ISA

#endif
