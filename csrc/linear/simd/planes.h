#pragma once

// Nibbles to float32 on AVX2. Its permutations look up eight floats at a time, and cost twice what
// bytes do: so the four bytes of each float are looked up by themselves, 32 at a time, and joined:
// three shuffles for eight floats. Small whole numbers and floats of few bits have no more than the
// upper two bytes, and take two.

#include "linear/simd/decode.h"

#if defined(__AVX2__) && !defined(__AVX512F__)
#define STROP_PLANES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// kUpper: for floats that have no more than the upper two bytes. Lower nibbles are columns 0 and 2
// of four, upper ones 1 and 3.
template <bool kUpper>
class PlaneDecoder {
 public:
  static constexpr int kColumns = 2, kBytes = kPanelRows;
  static constexpr int column(int step, int number) { return step + 2 * number; }
  static constexpr bool kZero = false;
  explicit PlaneDecoder(const CodesHeader& header) {
    float values[16];
    fill_table(header, values);
    for (int plane = 0; plane < 4; ++plane) {
      std::uint8_t bytes[32];
      for (int code = 0; code < 16; ++code) {
        bytes[code] = bytes[16 + code] =
            static_cast<std::uint8_t>(float_bits(values[code]) >> 8 * plane);
      }
      planes_[plane] = load_unaligned<__m256i>(bytes);
    }
  }
  STROP_MEMBER float factor() const { return 1; }

  template <int kStep>
  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    // Rows 0 to 3 and 8 to 11 of both bytes' columns, then the others: as they are joined.
    const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i both = _mm256_permutevar8x32_epi32(load_unaligned<__m256i>(from), order);
    const __m256i codes = kStep == 0 ? both : _mm256_srli_epi16(both, 4);
    look_up(_mm256_and_si256(codes, _mm256_set1_epi8(15)), to[0], to[1]);
  }

 private:
  STROP_MEMBER void look_up(__m256i codes, F32 (&first)[kRowVectors],
                            F32 (&second)[kRowVectors]) const {
    const __m256i c = _mm256_shuffle_epi8(planes_[2], codes);
    const __m256i d = _mm256_shuffle_epi8(planes_[3], codes);
    __m256i a = _mm256_setzero_si256(), b = a;
    if constexpr (!kUpper) {
      a = _mm256_shuffle_epi8(planes_[0], codes);
      b = _mm256_shuffle_epi8(planes_[1], codes);
    }
    join(_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d), first);
    join(_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d), second);
  }
  static STROP_MEMBER void join(__m256i low, __m256i high, F32 (&to)[kRowVectors]) {
    to[0] = bit_cast<F32>(_mm256_unpacklo_epi16(low, high));
    to[1] = bit_cast<F32>(_mm256_unpackhi_epi16(low, high));
  }

  __m256i planes_[4];
};

STROP_INLINE bool has_upper_only(const CodesHeader& header) {
  float values[16];
  fill_table(header, values);
  for (const float value : values) {
    if ((float_bits(value) & 0xffff) != 0) return false;
  }
  return true;
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
