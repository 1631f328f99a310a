#pragma once

// What warps ask of vectors beyond vector.h: words, and shuffles within each 16 bytes. A vector of
// 2 * kLanes words has the pixels k, k + 8, k + 16... of a stretch of 2 * kLanes in its stretches
// of 16 bytes, so that what is turned over within these comes out in order.
//
//   I16 rounded_product(I16 a, I16 b)      (a b + 2^14) >> 15
//   I16 first_bytes(I16)                   of each word, times kMixedOne
//   I16 differences(I16)                   second bytes less first ones, times kMixedOne
//   I16 four_channels(const u8*, const i32* offset)  8 bytes at each 16: of offset[0], [4], ...
//   I32 quads(const u8*, const i32* offset)          4 bytes of each offset
//   I16 zip_bytes(a, b), zip_words(a, b), zip_words_high(a, b), zip_pairs..., zip_fours...
//       a0 b0 a1 b1 ... of the first half of each 16 bytes, or of the other one
//   I16 repeated_pair<i>(I16)              words 2 i and 2 i + 1, again and again
//   I32 from_words(const void*)            kLanes of them
//   void store_words(void*, I32)           the low 16 bits of each
//   I32 products_of_words(I32 a, I32 b)    the sums of the products of each two words
//   F32 gathered(const float*, const i32* offset)

#include "cpu/vector.h"
#include "kernels/augment.h"

namespace strop::cpu::STROP_ISA {
using B16 = std::uint8_t __attribute__((vector_size(16)));

// Past the caches where the processor can; `to` is aligned.
STROP_INLINE void stream_sixteen(void* to, B16 v) {
#if defined(__SSE2__)
  _mm_stream_si128(static_cast<__m128i*>(to), bit_cast<__m128i>(v));
#else
  store_unaligned(to, v);
#endif
}
}  // namespace strop::cpu::STROP_ISA

#if defined(__AVX512F__)

#define STROP_WORDS(name, op)                                             \
  STROP_INLINE I16 name(I16 a, I16 b) {                                   \
    return bit_cast<I16>(op(bit_cast<__m512i>(a), bit_cast<__m512i>(b))); \
  }

namespace strop::cpu::STROP_ISA {
STROP_WORDS(rounded_product, _mm512_mulhrs_epi16)
STROP_WORDS(zip_bytes, _mm512_unpacklo_epi8)
STROP_WORDS(zip_words, _mm512_unpacklo_epi16)
STROP_WORDS(zip_words_high, _mm512_unpackhi_epi16)
STROP_WORDS(zip_pairs, _mm512_unpacklo_epi32)
STROP_WORDS(zip_pairs_high, _mm512_unpackhi_epi32)
STROP_WORDS(zip_fours, _mm512_unpacklo_epi64)
STROP_WORDS(zip_fours_high, _mm512_unpackhi_epi64)

STROP_INLINE I16 first_bytes(I16 v) {
  return bit_cast<I16>(_mm512_maddubs_epi16(bit_cast<__m512i>(v), _mm512_set1_epi16(kMixedOne)));
}
STROP_INLINE I16 differences(I16 v) {
  const short weights = static_cast<short>(kMixedOne << 8 | (-kMixedOne & 0xff));
  return bit_cast<I16>(_mm512_maddubs_epi16(bit_cast<__m512i>(v), _mm512_set1_epi16(weights)));
}

STROP_INLINE I16 four_channels(const std::uint8_t* base, const std::int32_t* offset) {
  const auto at = [&](int i) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + offset[i]));
  };
  __m512i v = _mm512_broadcastq_epi64(at(0));
  v = _mm512_mask_broadcastq_epi64(v, 0x0c, at(4));
  v = _mm512_mask_broadcastq_epi64(v, 0x30, at(8));
  return bit_cast<I16>(_mm512_mask_broadcastq_epi64(v, 0xc0, at(12)));
}

STROP_INLINE I32 quads(const std::uint8_t* base, const std::int32_t* offset) {
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
STROP_INLINE void store_words(void* to, I32 v) {
  _mm256_storeu_si256(static_cast<__m256i*>(to), _mm512_cvtepi32_epi16(bit_cast<__m512i>(v)));
}
STROP_INLINE I32 products_of_words(I32 a, I32 b) {
  return bit_cast<I32>(_mm512_madd_epi16(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}
STROP_INLINE F32 gathered(const float* base, const std::int32_t* offset) {
  return _mm512_i32gather_ps(_mm512_loadu_si512(offset), base, 4);
}
}  // namespace strop::cpu::STROP_ISA

#elif defined(__AVX2__)

#define STROP_WORDS(name, op)                                             \
  STROP_INLINE I16 name(I16 a, I16 b) {                                   \
    return bit_cast<I16>(op(bit_cast<__m256i>(a), bit_cast<__m256i>(b))); \
  }

namespace strop::cpu::STROP_ISA {
STROP_WORDS(rounded_product, _mm256_mulhrs_epi16)
STROP_WORDS(zip_bytes, _mm256_unpacklo_epi8)
STROP_WORDS(zip_words, _mm256_unpacklo_epi16)
STROP_WORDS(zip_words_high, _mm256_unpackhi_epi16)
STROP_WORDS(zip_pairs, _mm256_unpacklo_epi32)
STROP_WORDS(zip_pairs_high, _mm256_unpackhi_epi32)
STROP_WORDS(zip_fours, _mm256_unpacklo_epi64)
STROP_WORDS(zip_fours_high, _mm256_unpackhi_epi64)

STROP_INLINE I16 first_bytes(I16 v) {
  return bit_cast<I16>(_mm256_maddubs_epi16(bit_cast<__m256i>(v), _mm256_set1_epi16(kMixedOne)));
}
STROP_INLINE I16 differences(I16 v) {
  const short weights = static_cast<short>(kMixedOne << 8 | (-kMixedOne & 0xff));
  return bit_cast<I16>(_mm256_maddubs_epi16(bit_cast<__m256i>(v), _mm256_set1_epi16(weights)));
}

// Broadcasts take a load's port alone, and blends any.
STROP_INLINE I16 four_channels(const std::uint8_t* base, const std::int32_t* offset) {
  const auto at = [&](int i) {
    return _mm256_broadcastq_epi64(
        _mm_loadl_epi64(reinterpret_cast<const __m128i*>(base + offset[i])));
  };
  return bit_cast<I16>(_mm256_blend_epi32(at(0), at(4), 0xf0));
}

// A gather takes a Zen 3 three times as long.
STROP_INLINE I32 quads(const std::uint8_t* base, const std::int32_t* offset) {
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
STROP_INLINE void store_words(void* to, I32 v) {
  const __m256i low = _mm256_and_si256(bit_cast<__m256i>(v), _mm256_set1_epi32(0xffff));
  _mm_storeu_si128(static_cast<__m128i*>(to),
                   _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}
STROP_INLINE I32 products_of_words(I32 a, I32 b) {
  return bit_cast<I32>(_mm256_madd_epi16(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
}
STROP_INLINE F32 gathered(const float* base, const std::int32_t* offset) {
  return _mm256_i32gather_ps(base, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(offset)), 4);
}
}  // namespace strop::cpu::STROP_ISA

#else

#define STROP_WORDS(name, ...) \
  STROP_INLINE I16 name(I16 a, I16 b) { return __builtin_shufflevector(a, b, __VA_ARGS__); }

namespace strop::cpu::STROP_ISA {
STROP_WORDS(zip_words, 0, 8, 1, 9, 2, 10, 3, 11)
STROP_WORDS(zip_words_high, 4, 12, 5, 13, 6, 14, 7, 15)
STROP_WORDS(zip_pairs, 0, 1, 8, 9, 2, 3, 10, 11)
STROP_WORDS(zip_pairs_high, 4, 5, 12, 13, 6, 7, 14, 15)
STROP_WORDS(zip_fours, 0, 1, 2, 3, 8, 9, 10, 11)
STROP_WORDS(zip_fours_high, 4, 5, 6, 7, 12, 13, 14, 15)

using U16x8 = std::uint16_t __attribute__((vector_size(16)));

STROP_INLINE I16 zip_bytes(I16 a, I16 b) {
  return bit_cast<I16>(__builtin_shufflevector(bit_cast<B16>(a), bit_cast<B16>(b), 0, 16, 1, 17, 2,
                                               18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
}

#if defined(STROP_NEON)
STROP_INLINE I16 rounded_product(I16 a, I16 b) {
  return bit_cast<I16>(vqrdmulhq_s16(bit_cast<int16x8_t>(a), bit_cast<int16x8_t>(b)));
}
#elif defined(__SSE2__)
// From the halves of the product: 2 high + (low + 2^14) >> 15, without a carry out of the low one.
STROP_INLINE I16 rounded_product(I16 a, I16 b) {
  const __m128i x = bit_cast<__m128i>(a), y = bit_cast<__m128i>(b);
  const __m128i high = _mm_mulhi_epi16(x, y), low = _mm_srli_epi16(_mm_mullo_epi16(x, y), 14);
  const __m128i rounded = _mm_srli_epi16(_mm_add_epi16(low, _mm_set1_epi16(1)), 1);
  return bit_cast<I16>(_mm_add_epi16(_mm_add_epi16(high, high), rounded));
}
#else
STROP_INLINE I16 rounded_product(I16 a, I16 b) {
  I16 result;
  for (int i = 0; i < 2 * kLanes; ++i) {
    result[i] = static_cast<std::int16_t>((a[i] * b[i] + (1 << 14)) >> 15);
  }
  return result;
}
#endif

STROP_INLINE I16 first_bytes(I16 v) { return (v & broadcast(std::int16_t{0xff})) << kMixedBits; }
STROP_INLINE I16 differences(I16 v) {
  return (bit_cast<I16>(bit_cast<U16x8>(v) >> 8) << kMixedBits) - first_bytes(v);
}

STROP_INLINE I16 four_channels(const std::uint8_t* base, const std::int32_t* offset) {
  I16 v{};
  std::memcpy(&v, base + offset[0], 8);
  return v;
}

STROP_INLINE I32 quads(const std::uint8_t* base, const std::int32_t* offset) {
  I32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = load_unaligned<std::int32_t>(base + offset[i]);
  return v;
}

template <int kPair>
STROP_INLINE I16 repeated_pair(I16 v) {
  const I32 pairs = bit_cast<I32>(v);
  return bit_cast<I16>(__builtin_shufflevector(pairs, pairs, kPair, kPair, kPair, kPair));
}

STROP_INLINE I32 from_words(const void* from) {
  using Half = std::int16_t __attribute__((vector_size(8)));
  return __builtin_convertvector(load_unaligned<Half>(from), I32);
}
STROP_INLINE void store_words(void* to, I32 v) {
  using Half = std::int16_t __attribute__((vector_size(8)));
  store_unaligned(to, __builtin_convertvector(v, Half));
}
STROP_INLINE I32 products_of_words(I32 a, I32 b) {
  const auto low = [](I32 v) { return (v << 16) >> 16; };
  return low(a) * low(b) + (a >> 16) * (b >> 16);
}
STROP_INLINE F32 gathered(const float* base, const std::int32_t* offset) {
  F32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = base[offset[i]];
  return v;
}
}  // namespace strop::cpu::STROP_ISA

#endif
#undef STROP_WORDS
