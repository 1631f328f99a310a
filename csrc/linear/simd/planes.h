#pragma once

// One row of x times nibbles, on AVX2. Its permutations look up eight floats at a time, and cost
// twice what bytes do: so the four bytes of each float are looked up by themselves, 32 at a time,
// and joined. Small whole numbers and floats of few bits have no more than the upper two.

#include "linear/simd/panel_rows.h"

#if defined(__AVX2__) && !defined(__AVX512F__)
#define STROP_PLANES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

class PlaneTable {
 public:
  explicit PlaneTable(const float (&values)[16]) {
    for (int plane = 0; plane < 4; ++plane) {
      std::uint8_t bytes[32];
      for (int code = 0; code < 16; ++code) {
        const auto byte = static_cast<std::uint8_t>(float_bits(values[code]) >> 8 * plane);
        bytes[code] = bytes[16 + code] = byte;
        if (plane < 2 && byte != 0) upper_ = false;
      }
      planes_[plane] = load_unaligned<__m256i>(bytes);
    }
  }

  // Whether the upper two bytes are all.
  bool upper() const { return upper_; }

  // Codes of two columns, a column a half: to[i] has rows 4 i to 4 i + 3 of both.
  template <bool kUpper>
  STROP_MEMBER void look_up(__m256i codes, F32 (&to)[4]) const {
    const __m256i c = _mm256_shuffle_epi8(planes_[2], codes);
    const __m256i d = _mm256_shuffle_epi8(planes_[3], codes);
    const __m256i high[2] = {_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)};
    __m256i low[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    if constexpr (!kUpper) {
      const __m256i a = _mm256_shuffle_epi8(planes_[0], codes);
      const __m256i b = _mm256_shuffle_epi8(planes_[1], codes);
      low[0] = _mm256_unpacklo_epi8(a, b);
      low[1] = _mm256_unpackhi_epi8(a, b);
    }
    for (int i = 0; i < 2; ++i) {
      to[2 * i] = bit_cast<F32>(_mm256_unpacklo_epi16(low[i], high[i]));
      to[2 * i + 1] = bit_cast<F32>(_mm256_unpackhi_epi16(low[i], high[i]));
    }
  }

 private:
  __m256i planes_[4];
  bool upper_ = true;
};

// The sums of a group: of `count` columns, from one byte of `codes` on.
template <bool kUpper>
STROP_INLINE void sum_planes(const PlaneTable& table, const std::uint8_t* codes, const float* x,
                             std::int64_t count, F32 (&sum)[kRowVectors]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i even = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2);
  const __m256i odd = _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3);
  F32 found[2][4] = {};
  for (std::int64_t k = 0; k < count; k += 4, x += 4, codes += 2 * kPanelRows) {
    prefetch(codes + kAhead);
    const auto both = load_unaligned<__m256i>(codes);
    const __m256 four = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(x));
    F32 values[4];
    table.look_up<kUpper>(_mm256_and_si256(both, nibble), values);
    const F32 first = _mm256_permutevar_ps(four, even);
    for (int i = 0; i < 4; ++i) found[0][i] = multiply_add(values[i], first, found[0][i]);
    table.look_up<kUpper>(_mm256_and_si256(_mm256_srli_epi16(both, 4), nibble), values);
    const F32 second = _mm256_permutevar_ps(four, odd);
    for (int i = 0; i < 4; ++i) found[1][i] = multiply_add(values[i], second, found[1][i]);
  }
  for (int i = 0; i < 2; ++i) {
    const __m256 a = found[0][2 * i] + found[1][2 * i];
    const __m256 b = found[0][2 * i + 1] + found[1][2 * i + 1];
    sum[i] = _mm256_permute2f128_ps(a, b, 0x20) + _mm256_permute2f128_ps(a, b, 0x31);
  }
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
