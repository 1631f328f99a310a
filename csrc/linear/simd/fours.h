#pragma once

// Products of four bytes each, added up by one instruction: VNNI, and AArch64's dot product.
// Compiled once per instruction set that has one. See linear/simd/dots.h for what a source is.

#include "core/simd/unroll.h"
#include "linear/simd/panel_rows.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Codes of the weight and codes of x. With kSignedX those are unsigned and these signed, and the
// other way round without: VNNI wants one of each.
template <bool kSignedX>
STROP_INLINE I32 add_fours(I32 sum, I32 codes, I32 x) {
#if defined(STROP_NEON)
  static_assert(kSignedX);  // (codes below 128 are signed as well)
  return bit_cast<I32>(
      vdotq_s32(bit_cast<int32x4_t>(sum), bit_cast<int8x16_t>(codes), bit_cast<int8x16_t>(x)));
#else
  const I32 a = kSignedX ? codes : x, b = kSignedX ? x : codes;
#if defined(__AVX512VNNI__)
  return bit_cast<I32>(
      _mm512_dpbusd_epi32(bit_cast<__m512i>(sum), bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
#else
  return bit_cast<I32>(
      _mm256_dpbusd_avx_epi32(bit_cast<__m256i>(sum), bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
#endif
#endif
}

// Four codes of x in every lane.
STROP_INLINE I32 spread_four(const std::uint8_t* x) {
  return broadcast(load_unaligned<std::int32_t>(x));
}

// Independent sums of so many vectors hide an instruction's latency; few are split by columns.
constexpr int chains_of(int sums) { return sums >= 6 ? 1 : sums >= 3 ? 2 : 4; }

// One of each row's chains, added up.
template <int kRows, int kChains>
STROP_INLINE void add_chains(const I32 (&sum)[kRows][kChains][kRowVectors],
                             I32 (&total)[kRows][kRowVectors]) {
  unrolled<kRows>([&](auto r) STROP_UNROLLED {
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      total[r][i] = sum[r][0][i];
      for (int c = 1; c < kChains; ++c) total[r][i] += sum[r][c][i];
    });
  });
}

// Bytes.
template <bool kSigned>
struct Fours {
  static constexpr bool kSignedX = kSigned, kAlwaysInPlace = false;
  using Code = std::uint8_t;
  using X = std::uint8_t;
  static constexpr int kMaxRows = kLanes == 16 ? 12 : 6;
  static constexpr int kColumnBytes = kPanelRows;

  template <int kRows>
  static STROP_MEMBER void sums(const X* x, std::int64_t apart, std::int64_t begin,
                                std::int64_t end, const Code*& w,
                                I32 (&total)[kRows][kRowVectors]) {
    constexpr int kChains = chains_of(kRows * kRowVectors);
    I32 sum[kRows][kChains][kRowVectors] = {};
    for (std::int64_t k = begin; k < end; k += 4 * kChains) {
      unrolled<kChains>([&](auto c) STROP_UNROLLED {
        prefetch(w + kAhead);
        I32 codes[kRowVectors];
        unrolled<kRowVectors>(
            [&](auto i) STROP_UNROLLED { codes[i] = load_unaligned<I32>(w + i * kVectorBytes); });
        unrolled<kRows>([&](auto r) STROP_UNROLLED {
          const I32 four = spread_four(x + r * apart + k + 4 * c);
          unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
            sum[r][c][i] = add_fours<kSignedX>(sum[r][c][i], codes[i], four);
          });
        });
        w += kQuadBytes;
      });
    }
    add_chains<kRows, kChains>(sum, total);
  }
};

// Nibbles, whose x is signed: eight columns a step.
struct FourNibbles {
  static constexpr bool kAlwaysInPlace = false;
  using Code = std::uint8_t;
  using X = std::uint8_t;
  static constexpr int kMaxRows = kLanes == 16 ? 6 : 2;
  static constexpr int kColumnBytes = kPanelRows / 2;

  template <int kRows>
  static STROP_MEMBER void sums(const X* x, std::int64_t apart, std::int64_t begin,
                                std::int64_t end, const Code*& w,
                                I32 (&total)[kRows][kRowVectors]) {
    constexpr int kChains = 2;
    const I32 low = broadcast(0x0f0f0f0f);
    I32 sum[kRows][kChains][kRowVectors] = {};
    for (std::int64_t k = begin; k < end; k += 8, w += kQuadBytes) {
      prefetch(w + kAhead);
      unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
        const I32 both = load_unaligned<I32>(w + i * kVectorBytes);
        const I32 codes[2] = {both & low, (both >> 4) & low};
        unrolled<kRows>([&](auto r) STROP_UNROLLED {
          unrolled<2>([&](auto half) STROP_UNROLLED {
            const I32 four = spread_four(x + r * apart + k + 4 * half);
            sum[r][half][i] = add_fours<true>(sum[r][half][i], codes[half], four);
          });
        });
      });
    }
    add_chains<kRows, kChains>(sum, total);
  }
};

// To bytes, as Fours reads them.
STROP_INLINE void decode_nibbles(const std::uint8_t* from, std::int64_t columns, std::uint8_t* to) {
  const I32 low = broadcast(0x0f0f0f0f);
  for (std::int64_t k = 0; k < columns; k += 8, from += kQuadBytes, to += 2 * kQuadBytes) {
    for (int i = 0; i < kQuadBytes; i += kVectorBytes) {
      const I32 both = load_unaligned<I32>(from + i);
      store_unaligned(to + i, both & low);
      store_unaligned(to + kQuadBytes + i, (both >> 4) & low);
    }
  }
}

}  // namespace strop::linear::simd::STROP_ISA
