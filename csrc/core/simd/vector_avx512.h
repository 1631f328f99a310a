#pragma once

// AVX-512 F, BW, VL, DQ. Included by vector.h.

#include <immintrin.h>

// The constraint of inline assembly for a vector register.
#define STROP_REGISTER "v"

namespace strop::simd::STROP_ISA {

STROP_INLINE F32 round_half_even(F32 v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
STROP_INLINE F32 round_down(F32 v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
STROP_INLINE F32 round_toward_zero(F32 v) {
  return _mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

STROP_INLINE F32 max(F32 bound, F32 v) { return _mm512_max_ps(bound, v); }
STROP_INLINE F32 min(F32 bound, F32 v) { return _mm512_min_ps(bound, v); }

STROP_INLINE F32 multiply_plus_zero(F32 a, F32 b) {
  return _mm512_fmadd_ps(a, b, _mm512_setzero_ps());
}

STROP_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }

STROP_INLINE F32 four_repeated(const float* from) {
  return _mm512_broadcast_f32x4(_mm_loadu_ps(from));
}
STROP_INLINE F32 four_repeated(const BFloat16* from) {
  const __m512i words = _mm512_set1_epi64(load_unaligned<std::int64_t>(from));
  return bit_cast<F32>(_mm512_unpacklo_epi16(_mm512_setzero_si512(), words));
}
STROP_INLINE F32 four_repeated(const Float16* from) {
  return _mm512_cvtph_ps(_mm256_set1_epi64x(load_unaligned<std::int64_t>(from)));
}
template <int kElement>
STROP_INLINE F32 splat(F32 v) {
  return _mm512_permute_ps(v, kElement * 0x55);
}

// Fours are turned over within the quarters of vectors, then quarters change places.
STROP_INLINE void transpose(F32 (&v)[kLanes]) {
  __m512 turned[16];
  for (int i = 0; i < 16; i += 4) {
    const __m512 a = _mm512_unpacklo_ps(v[i], v[i + 1]), b = _mm512_unpackhi_ps(v[i], v[i + 1]);
    const __m512 c = _mm512_unpacklo_ps(v[i + 2], v[i + 3]);
    const __m512 d = _mm512_unpackhi_ps(v[i + 2], v[i + 3]);
    turned[i] = _mm512_shuffle_ps(a, c, 0x44);
    turned[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
    turned[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
    turned[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 a = turned[i], b = turned[i + 4], c = turned[i + 8], d = turned[i + 12];
    const __m512 even_low = _mm512_shuffle_f32x4(a, b, 0x88);
    const __m512 even_high = _mm512_shuffle_f32x4(c, d, 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(a, b, 0xdd);
    const __m512 odd_high = _mm512_shuffle_f32x4(c, d, 0xdd);
    v[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    v[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    v[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    v[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}

STROP_INLINE U32 join_halves(U32 low, U32 high) {
  const __m512i mask = _mm512_set1_epi32(0xffff);
  return bit_cast<U32>(
      _mm512_ternarylogic_epi32(mask, bit_cast<__m512i>(low), bit_cast<__m512i>(high), 0xca));
}

STROP_INLINE I16 larger(I16 a, I16 b) {
  return bit_cast<I16>(_mm512_max_epi16(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}
STROP_INLINE I16 smaller(I16 a, I16 b) {
  return bit_cast<I16>(_mm512_min_epi16(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}
STROP_INLINE I32 larger(I32 a, I32 b) {
  return bit_cast<I32>(_mm512_max_epi32(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}
STROP_INLINE I32 smaller(I32 a, I32 b) {
  return bit_cast<I32>(_mm512_min_epi32(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}
STROP_INLINE std::int32_t largest(I32 v) { return _mm512_reduce_max_epi32(bit_cast<__m512i>(v)); }
STROP_INLINE std::int32_t smallest(I32 v) { return _mm512_reduce_min_epi32(bit_cast<__m512i>(v)); }

// Halves the number of vectors at each step: the two of a pair are interleaved and joined. The last
// two steps move whole quarters, which leaves lane i to vector i.
template <I32 (*kJoin)(I32, I32)>
STROP_INLINE I32 reduce_each(const I32 (&v)[kLanes]) {
  const auto at = [&](int i) { return bit_cast<__m512i>(v[i]); };
  const auto join = [](__m512i a, __m512i b) {
    return bit_cast<__m512i>(kJoin(bit_cast<I32>(a), bit_cast<I32>(b)));
  };
  __m512i two[8], four[4], eight[2];
  for (int i = 0; i < 8; ++i) {
    two[i] = join(_mm512_unpacklo_epi32(at(2 * i), at(2 * i + 1)),
                  _mm512_unpackhi_epi32(at(2 * i), at(2 * i + 1)));
  }
  for (int i = 0; i < 4; ++i) {
    four[i] = join(_mm512_unpacklo_epi64(two[2 * i], two[2 * i + 1]),
                   _mm512_unpackhi_epi64(two[2 * i], two[2 * i + 1]));
  }
  for (int i = 0; i < 2; ++i) {
    eight[i] = join(_mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], _MM_SHUFFLE(2, 0, 2, 0)),
                    _mm512_shuffle_i32x4(four[2 * i], four[2 * i + 1], _MM_SHUFFLE(3, 1, 3, 1)));
  }
  return bit_cast<I32>(join(_mm512_shuffle_i32x4(eight[0], eight[1], _MM_SHUFFLE(2, 0, 2, 0)),
                            _mm512_shuffle_i32x4(eight[0], eight[1], _MM_SHUFFLE(3, 1, 3, 1))));
}
STROP_INLINE I32 largest_of_each(const I32 (&v)[kLanes]) { return reduce_each<larger>(v); }
STROP_INLINE I32 smallest_of_each(const I32 (&v)[kLanes]) { return reduce_each<smaller>(v); }

STROP_INLINE std::uint32_t lane_bits(I32 mask) {
  return static_cast<std::uint32_t>(_mm512_movepi32_mask(bit_cast<__m512i>(mask)));
}
STROP_INLINE std::uint32_t half_lane_bits(I16 mask) {
  return static_cast<std::uint32_t>(_mm512_movepi16_mask(bit_cast<__m512i>(mask)));
}

STROP_INLINE F32 from_bfloat16(U16 half) {
  return bit_cast<F32>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bit_cast<__m256i>(half)), 16));
}

// VCVTNEPS2BF16 would flush subnormals to zero: the bits would differ from every other backend's.
STROP_INLINE U16 to_bfloat16(F32 v) {
  const __m512i bits = bit_cast<__m512i>(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __m512i nan = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return bit_cast<U16>(_mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(is_nan, rounded, nan)));
}

STROP_INLINE F32 from_float16(U16 half) { return _mm512_cvtph_ps(bit_cast<__m256i>(half)); }
STROP_INLINE U16 to_float16(F32 v) {
  return bit_cast<U16>(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

STROP_INLINE F32 permuted(F32 table, I32 index) {
  return _mm512_permutexvar_ps(bit_cast<__m512i>(index), table);
}

STROP_INLINE U64 multiply_low_words(U64 a, std::uint32_t b) {
  return bit_cast<U64>(
      _mm512_mul_epu32(bit_cast<__m512i>(a), _mm512_set1_epi64(static_cast<std::int64_t>(b))));
}

STROP_INLINE I16 words_of(I32 a, I32 b) {
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const __m512i parts = _mm512_packus_epi32(bit_cast<__m512i>(a), bit_cast<__m512i>(b));
  return bit_cast<I16>(_mm512_permutexvar_epi64(order, parts));
}
STROP_INLINE void store_bytes(void* to, I16 words) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi16_epi8(bit_cast<__m512i>(words)));
}
STROP_INLINE I16 words_from_bytes(const void* from) {
  return bit_cast<I16>(_mm512_cvtepu8_epi16(_mm256_loadu_si256(static_cast<const __m256i*>(from))));
}
STROP_INLINE I32 from_bytes(const void* from) {
  return bit_cast<I32>(_mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))));
}

#define STROP_WORDS(name, op)                                             \
  STROP_INLINE I16 name(I16 a, I16 b) {                                   \
    return bit_cast<I16>(op(bit_cast<__m512i>(a), bit_cast<__m512i>(b))); \
  }
STROP_WORDS(rounded_product, _mm512_mulhrs_epi16)
STROP_WORDS(zip_bytes, _mm512_unpacklo_epi8)
STROP_WORDS(zip_words, _mm512_unpacklo_epi16)
STROP_WORDS(zip_words_high, _mm512_unpackhi_epi16)
STROP_WORDS(zip_pairs, _mm512_unpacklo_epi32)
STROP_WORDS(zip_pairs_high, _mm512_unpackhi_epi32)
STROP_WORDS(zip_fours, _mm512_unpacklo_epi64)
STROP_WORDS(zip_fours_high, _mm512_unpackhi_epi64)
#undef STROP_WORDS

template <int kFirst, int kSecond>
STROP_INLINE I16 weighted_bytes(I16 v) {
  const short weights = static_cast<short>(kSecond * 256 + (kFirst & 0xff));
  return bit_cast<I16>(_mm512_maddubs_epi16(bit_cast<__m512i>(v), _mm512_set1_epi16(weights)));
}

STROP_INLINE I16 gathered_eights(const std::uint8_t* base, const std::int32_t* offset) {
  const auto at = [&](int i) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + offset[i]));
  };
  __m512i v = _mm512_broadcastq_epi64(at(0));
  v = _mm512_mask_broadcastq_epi64(v, 0x0c, at(4));
  v = _mm512_mask_broadcastq_epi64(v, 0x30, at(8));
  return bit_cast<I16>(_mm512_mask_broadcastq_epi64(v, 0xc0, at(12)));
}

STROP_INLINE I32 gathered(const std::uint8_t* base, const std::int32_t* offset) {
  return bit_cast<I32>(_mm512_i32gather_epi32(_mm512_loadu_si512(offset), base, 1));
}

template <int kPair>
STROP_INLINE I16 repeated_pair(I16 v) {
  return bit_cast<I16>(
      _mm512_shuffle_epi32(bit_cast<__m512i>(v), static_cast<_MM_PERM_ENUM>(kPair * 0x55)));
}

STROP_INLINE I32 from_words(const void* from) {
  return bit_cast<I32>(
      _mm512_cvtepi16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(from))));
}
STROP_INLINE I32 products_of_words(I32 a, I32 b) {
  return bit_cast<I32>(_mm512_madd_epi16(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}
STROP_INLINE F32 gathered(const float* base, const std::int32_t* offset) {
  return _mm512_i32gather_ps(_mm512_loadu_si512(offset), base, 4);
}

STROP_INLINE void stream(void* to, F32 v) { _mm512_stream_ps(static_cast<float*>(to), v); }
STROP_INLINE void stream(void* to, U16 v) {
  _mm256_stream_si256(static_cast<__m256i*>(to), bit_cast<__m256i>(v));
}
STROP_INLINE void stream(void* to, B16 v) {
  _mm_stream_si128(static_cast<__m128i*>(to), bit_cast<__m128i>(v));
}
STROP_INLINE void stream_fence() { _mm_sfence(); }

}  // namespace strop::simd::STROP_ISA
