#pragma once

// AVX2 with F16C. Included by vector.h.

#include <immintrin.h>

// The constraint of inline assembly for a vector register.
#define STROP_REGISTER "x"

namespace strop::simd::STROP_ISA {

STROP_INLINE F32 round_half_even(F32 v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
STROP_INLINE F32 round_down(F32 v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
STROP_INLINE F32 round_toward_zero(F32 v) {
  return _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

STROP_INLINE F32 max(F32 bound, F32 v) { return _mm256_max_ps(bound, v); }
STROP_INLINE F32 min(F32 bound, F32 v) { return _mm256_min_ps(bound, v); }

STROP_INLINE F32 multiply_plus_zero(F32 a, F32 b) {
  return _mm256_fmadd_ps(a, b, _mm256_setzero_ps());
}

STROP_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }

STROP_INLINE F32 four_repeated(const float* from) {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(from));
}
STROP_INLINE F32 four_repeated(const BFloat16* from) {
  const __m256i words = _mm256_set1_epi64x(load_unaligned<std::int64_t>(from));
  return bit_cast<F32>(_mm256_unpacklo_epi16(_mm256_setzero_si256(), words));
}
STROP_INLINE F32 four_repeated(const Float16* from) {
  return _mm256_cvtph_ps(_mm_set1_epi64x(load_unaligned<std::int64_t>(from)));
}
template <int kElement>
STROP_INLINE F32 splat(F32 v) {
  return _mm256_permute_ps(v, kElement * 0x55);
}

// Fours are turned over within the halves of vectors, then halves change places.
STROP_INLINE void transpose(F32 (&v)[kLanes]) {
  __m256 turned[8];
  for (int i = 0; i < 8; i += 4) {
    const __m256 a = _mm256_unpacklo_ps(v[i], v[i + 1]), b = _mm256_unpackhi_ps(v[i], v[i + 1]);
    const __m256 c = _mm256_unpacklo_ps(v[i + 2], v[i + 3]);
    const __m256 d = _mm256_unpackhi_ps(v[i + 2], v[i + 3]);
    turned[i] = _mm256_shuffle_ps(a, c, 0x44);
    turned[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
    turned[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
    turned[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(turned[i], turned[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(turned[i], turned[i + 4], 0x31);
  }
}

STROP_INLINE U32 join_halves(U32 low, U32 high) {
  return bit_cast<U32>(_mm256_blend_epi16(bit_cast<__m256i>(low), bit_cast<__m256i>(high), 0xaa));
}

STROP_INLINE I16 larger(I16 a, I16 b) {
  return bit_cast<I16>(_mm256_max_epi16(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
}
STROP_INLINE I16 smaller(I16 a, I16 b) {
  return bit_cast<I16>(_mm256_min_epi16(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
}
STROP_INLINE I32 larger(I32 a, I32 b) {
  return bit_cast<I32>(_mm256_max_epi32(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
}
STROP_INLINE I32 smaller(I32 a, I32 b) {
  return bit_cast<I32>(_mm256_min_epi32(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
}

STROP_INLINE std::int32_t largest(I32 v) {
  const __m256i x = bit_cast<__m256i>(v);
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(m);
}
STROP_INLINE std::int32_t smallest(I32 v) {
  const __m256i x = bit_cast<__m256i>(v);
  __m128i m = _mm_min_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  m = _mm_min_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(1, 0, 3, 2)));
  m = _mm_min_epi32(m, _mm_shuffle_epi32(m, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(m);
}

// Halves the number of vectors at each step: the two of a pair are interleaved and joined.
template <I32 (*kJoin)(I32, I32)>
STROP_INLINE I32 reduce_each(const I32 (&v)[kLanes]) {
  const auto at = [&](int i) { return bit_cast<__m256i>(v[i]); };
  const auto join = [](__m256i a, __m256i b) {
    return bit_cast<__m256i>(kJoin(bit_cast<I32>(a), bit_cast<I32>(b)));
  };
  __m256i two[4], four[2];
  for (int i = 0; i < 4; ++i) {
    two[i] = join(_mm256_unpacklo_epi32(at(2 * i), at(2 * i + 1)),
                  _mm256_unpackhi_epi32(at(2 * i), at(2 * i + 1)));
  }
  for (int i = 0; i < 2; ++i) {
    four[i] = join(_mm256_unpacklo_epi64(two[2 * i], two[2 * i + 1]),
                   _mm256_unpackhi_epi64(two[2 * i], two[2 * i + 1]));
  }
  return bit_cast<I32>(join(_mm256_permute2x128_si256(four[0], four[1], 0x20),
                            _mm256_permute2x128_si256(four[0], four[1], 0x31)));
}
STROP_INLINE I32 largest_of_each(const I32 (&v)[kLanes]) { return reduce_each<larger>(v); }
STROP_INLINE I32 smallest_of_each(const I32 (&v)[kLanes]) { return reduce_each<smaller>(v); }

STROP_INLINE std::uint32_t lane_bits(I32 mask) {
  return static_cast<std::uint32_t>(_mm256_movemask_ps(bit_cast<__m256>(mask)));
}
STROP_INLINE std::uint32_t half_lane_bits(I16 mask) {
  const __m256i x = bit_cast<__m256i>(mask);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(bytes));
}

STROP_INLINE F32 from_bfloat16(U16 half) {
  return bit_cast<F32>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bit_cast<__m128i>(half)), 16));
}

STROP_INLINE U16 to_bfloat16(F32 v) {
  const U32 bits = bit_cast<U32>(v);
  const U32 rounded = (bits + broadcast(0x7fffu) + ((bits >> 16) & broadcast(1u))) >> 16;
  const U32 nan = (bits >> 16) | broadcast(0x40u);
  const __m256i half = bit_cast<__m256i>(select(I32(v != v), nan, rounded));
  return bit_cast<U16>(
      _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

STROP_INLINE F32 from_float16(U16 half) { return _mm256_cvtph_ps(bit_cast<__m128i>(half)); }
STROP_INLINE U16 to_float16(F32 v) {
  return bit_cast<U16>(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

STROP_INLINE F32 permuted(F32 table, I32 index) {
  return _mm256_permutevar8x32_ps(table, bit_cast<__m256i>(index));
}

STROP_INLINE U64 multiply_low_words(U64 a, std::uint32_t b) {
  return bit_cast<U64>(
      _mm256_mul_epu32(bit_cast<__m256i>(a), _mm256_set1_epi64x(static_cast<std::int64_t>(b))));
}

STROP_INLINE I16 words_of(I32 a, I32 b) {
  const __m256i quarters = _mm256_packus_epi32(bit_cast<__m256i>(a), bit_cast<__m256i>(b));
  return bit_cast<I16>(_mm256_permute4x64_epi64(quarters, _MM_SHUFFLE(3, 1, 2, 0)));
}
STROP_INLINE void store_bytes(void* to, I16 words) {
  const __m256i w = bit_cast<__m256i>(words);
  _mm_storeu_si128(static_cast<__m128i*>(to),
                   _mm_packus_epi16(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1)));
}
STROP_INLINE I16 words_from_bytes(const void* from) {
  return bit_cast<I16>(_mm256_cvtepu8_epi16(_mm_loadu_si128(static_cast<const __m128i*>(from))));
}
STROP_INLINE I32 from_bytes(const void* from) {
  return bit_cast<I32>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(from))));
}

#define STROP_WORDS(name, op)                                             \
  STROP_INLINE I16 name(I16 a, I16 b) {                                   \
    return bit_cast<I16>(op(bit_cast<__m256i>(a), bit_cast<__m256i>(b))); \
  }
STROP_WORDS(rounded_product, _mm256_mulhrs_epi16)
STROP_WORDS(zip_bytes, _mm256_unpacklo_epi8)
STROP_WORDS(zip_words, _mm256_unpacklo_epi16)
STROP_WORDS(zip_words_high, _mm256_unpackhi_epi16)
STROP_WORDS(zip_pairs, _mm256_unpacklo_epi32)
STROP_WORDS(zip_pairs_high, _mm256_unpackhi_epi32)
STROP_WORDS(zip_fours, _mm256_unpacklo_epi64)
STROP_WORDS(zip_fours_high, _mm256_unpackhi_epi64)
#undef STROP_WORDS

template <int kFirst, int kSecond>
STROP_INLINE I16 weighted_bytes(I16 v) {
  const short weights = static_cast<short>(kSecond * 256 + (kFirst & 0xff));
  return bit_cast<I16>(_mm256_maddubs_epi16(bit_cast<__m256i>(v), _mm256_set1_epi16(weights)));
}

// Broadcasts take a load's port alone, and blends any.
STROP_INLINE I16 gathered_eights(const std::uint8_t* base, const std::int32_t* offset) {
  const auto at = [&](int i) {
    return _mm256_broadcastq_epi64(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + offset[i])));
  };
  return bit_cast<I16>(_mm256_blend_epi32(at(0), at(4), 0xf0));
}

// A gather takes a Zen 3 three times as long.
STROP_INLINE I32 gathered(const std::uint8_t* base, const std::int32_t* offset) {
  const auto at = [&](int i) {
    return _mm256_set1_epi32(load_unaligned<std::int32_t>(base + offset[i]));
  };
  const __m256i a = _mm256_blend_epi32(at(0), at(1), 0x02);
  const __m256i b = _mm256_blend_epi32(at(2), at(3), 0x08);
  const __m256i c = _mm256_blend_epi32(at(4), at(5), 0x20);
  const __m256i d = _mm256_blend_epi32(at(6), at(7), 0x80);
  return bit_cast<I32>(
      _mm256_blend_epi32(_mm256_blend_epi32(a, b, 0x0c), _mm256_blend_epi32(c, d, 0xc0), 0xf0));
}

template <int kPair>
STROP_INLINE I16 repeated_pair(I16 v) {
  return bit_cast<I16>(_mm256_shuffle_epi32(bit_cast<__m256i>(v), kPair * 0x55));
}

STROP_INLINE I32 from_words(const void* from) {
  return bit_cast<I32>(_mm256_cvtepi16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(from))));
}
STROP_INLINE I32 products_of_words(I32 a, I32 b) {
  return bit_cast<I32>(_mm256_madd_epi16(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
}
STROP_INLINE F32 gathered(const float* base, const std::int32_t* offset) {
  return _mm256_i32gather_ps(base, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset)), 4);
}

STROP_INLINE void stream(void* to, F32 v) { _mm256_stream_ps(static_cast<float*>(to), v); }
STROP_INLINE void stream(void* to, U16 v) {
  _mm_stream_si128(static_cast<__m128i*>(to), bit_cast<__m128i>(v));
}
STROP_INLINE void stream(void* to, B16 v) {
  _mm_stream_si128(static_cast<__m128i*>(to), bit_cast<__m128i>(v));
}
STROP_INLINE void stream_fence() { _mm_sfence(); }

}  // namespace strop::simd::STROP_ISA
