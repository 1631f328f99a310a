#pragma once

// What any compiler target can do; on x86-64 that is SSE2. Included by vector.h.

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/simd/vector_sixteen.h"

// The constraint of inline assembly for a vector register.
#if defined(__SSE2__)
#define STROP_REGISTER "x"
#elif defined(__aarch64__)
#define STROP_REGISTER "w"
#else
#define STROP_REGISTER "m"
#endif

namespace strop::simd::STROP_ISA {

// SSE2 has no round instruction: adding 2^23 leaves no bits for a fraction. The sign is put back,
// and what has no fraction to begin with (or is NaN) stays.
STROP_INLINE F32 round_half_even(F32 v) {
  const F32 big = broadcast(0x1p23f);
  const U32 bits = bit_cast<U32>(v);
  const U32 sign = bits & broadcast(0x80000000u);
  const F32 size = bit_cast<F32>(bits & broadcast(0x7fffffffu));
  const U32 rounded = bit_cast<U32>((size + big) - big) | sign;
  return select(I32(size < big), bit_cast<F32>(rounded), v);
}

STROP_INLINE F32 round_down(F32 v) {
  const F32 nearest = round_half_even(v);
  const U32 one = bit_cast<U32>(broadcast(1.0f));
  return nearest - bit_cast<F32>(bit_cast<U32>(I32(nearest > v)) & one);
}

STROP_INLINE F32 round_toward_zero(F32 v) {
  const U32 bits = bit_cast<U32>(v);
  const F32 size = bit_cast<F32>(bits & broadcast(0x7fffffffu));
  return bit_cast<F32>(bit_cast<U32>(round_down(size)) | (bits & broadcast(0x80000000u)));
}

#if defined(__SSE2__)
STROP_INLINE F32 max(F32 bound, F32 v) { return _mm_max_ps(bound, v); }
STROP_INLINE F32 min(F32 bound, F32 v) { return _mm_min_ps(bound, v); }
#else
STROP_INLINE F32 max(F32 bound, F32 v) { return select(I32(bound > v), bound, v); }
STROP_INLINE F32 min(F32 bound, F32 v) { return select(I32(bound < v), bound, v); }
#endif

STROP_INLINE F32 multiply_plus_zero(F32 a, F32 b) { return a * b + broadcast(0.0f); }
STROP_INLINE F32 multiply_add(F32 a, F32 b, F32 c) { return a * b + c; }

STROP_INLINE U32 join_halves(U32 low, U32 high) {
  return (low & broadcast(0xffffu)) | (high & broadcast(0xffff0000u));
}

#if defined(__SSE2__)
STROP_INLINE I16 larger(I16 a, I16 b) {
  return bit_cast<I16>(_mm_max_epi16(bit_cast<__m128i>(a), bit_cast<__m128i>(b)));
}
STROP_INLINE I16 smaller(I16 a, I16 b) {
  return bit_cast<I16>(_mm_min_epi16(bit_cast<__m128i>(a), bit_cast<__m128i>(b)));
}
#else
STROP_INLINE I16 larger(I16 a, I16 b) {
  const I16 mask = I16(a > b);
  return (a & mask) | (b & ~mask);
}
STROP_INLINE I16 smaller(I16 a, I16 b) {
  const I16 mask = I16(a < b);
  return (a & mask) | (b & ~mask);
}
#endif

STROP_INLINE I32 larger(I32 a, I32 b) {
  return bit_cast<I32>(select(I32(a > b), bit_cast<U32>(a), bit_cast<U32>(b)));
}
STROP_INLINE I32 smaller(I32 a, I32 b) {
  return bit_cast<I32>(select(I32(a < b), bit_cast<U32>(a), bit_cast<U32>(b)));
}

STROP_INLINE std::int32_t largest(I32 v) {
  std::int32_t result = v[0];
  for (int lane = 1; lane < kLanes; ++lane) result = v[lane] > result ? v[lane] : result;
  return result;
}
STROP_INLINE std::int32_t smallest(I32 v) {
  std::int32_t result = v[0];
  for (int lane = 1; lane < kLanes; ++lane) result = v[lane] < result ? v[lane] : result;
  return result;
}

STROP_INLINE I32 largest_of_each(const I32 (&v)[kLanes]) {
  I32 result;
  for (int i = 0; i < kLanes; ++i) result[i] = largest(v[i]);
  return result;
}
STROP_INLINE I32 smallest_of_each(const I32 (&v)[kLanes]) {
  I32 result;
  for (int i = 0; i < kLanes; ++i) result[i] = smallest(v[i]);
  return result;
}

#if defined(__SSE2__)
STROP_INLINE std::uint32_t lane_bits(I32 mask) {
  return static_cast<std::uint32_t>(_mm_movemask_ps(bit_cast<__m128>(mask)));
}
STROP_INLINE std::uint32_t half_lane_bits(I16 mask) {
  const __m128i bytes = _mm_packs_epi16(bit_cast<__m128i>(mask), _mm_setzero_si128());
  return static_cast<std::uint32_t>(_mm_movemask_epi8(bytes));
}
#else
STROP_INLINE std::uint32_t lane_bits(I32 mask) {
  std::uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= (mask[lane] & 1u) << lane;
  return bits;
}
STROP_INLINE std::uint32_t half_lane_bits(I16 mask) {
  std::uint32_t bits = 0;
  for (int lane = 0; lane < 2 * kLanes; ++lane) bits |= (mask[lane] & 1u) << lane;
  return bits;
}
#endif

STROP_INLINE F32 from_bfloat16(U16 half) {
  return bit_cast<F32>(__builtin_convertvector(half, U32) << 16);
}

STROP_INLINE U16 to_bfloat16(F32 v) {
  const U32 bits = bit_cast<U32>(v);
  const U32 rounded = (bits + broadcast(0x7fffu) + ((bits >> 16) & broadcast(1u))) >> 16;
  const U32 nan = (bits >> 16) | broadcast(0x40u);
  return __builtin_convertvector(select(I32(v != v), nan, rounded), U16);
}

// The same steps as to_float(Float16) and FromFloat<Float16> in core/dtype.h, without branches.
STROP_INLINE F32 from_float16(U16 half) {
  const U32 bits = __builtin_convertvector(half, U32);
  const U32 sign = (bits & broadcast(0x8000u)) << 16;
  const U32 size = bits & broadcast(0x7fffu);
  const U32 normal = (size << 13) + broadcast(112u << 23);
  const U32 special = broadcast(0x7f800000u) | ((size & broadcast(0x3ffu)) << 13);
  const F32 tiny = __builtin_convertvector(bit_cast<I32>(size), F32) * broadcast(0x1p-24f);
  const I32 is_special = I32(bit_cast<I32>(size) >= broadcast(0x7c00));
  const I32 is_normal = I32(bit_cast<I32>(size) >= broadcast(0x0400));
  const U32 finite = select(is_normal, normal, bit_cast<U32>(tiny));
  return bit_cast<F32>(sign | select(is_special, special, finite));
}

STROP_INLINE U16 to_float16(F32 v) {
  const U32 bits = bit_cast<U32>(v);
  const U32 sign = (bits >> 16) & broadcast(0x8000u);
  const U32 size = bits & broadcast(0x7fffffffu);
  const U32 nan = broadcast(0x7e00u) | ((size >> 13) & broadcast(0x3ffu));
  const U32 odd = (size >> 13) & broadcast(1u);
  const U32 normal = (size - broadcast(112u << 23) + broadcast(0xfffu) + odd) >> 13;
  const F32 shifted = bit_cast<F32>(size) + broadcast(0.5f);
  const U32 tiny = bit_cast<U32>(shifted) & broadcast(0x7fffu);
  const I32 ordered = bit_cast<I32>(size);
  U32 half = select(I32(ordered >= broadcast(0x38800000)), normal, tiny);
  half = select(I32(ordered >= broadcast(0x477ff000)), broadcast(0x7c00u), half);
  half = select(I32(ordered > broadcast(0x7f800000)), nan, half);
  return __builtin_convertvector(sign | half, U16);
}

STROP_INLINE U64 multiply_low_words(U64 a, std::uint32_t b) {
#if defined(__SSE2__)
  return bit_cast<U64>(_mm_mul_epu32(bit_cast<__m128i>(a), _mm_set1_epi32(static_cast<int>(b))));
#else
  return (a & broadcast(std::uint64_t{0xffffffffu})) * broadcast(std::uint64_t{b});
#endif
}

#if defined(__SSE2__)
// From the halves of the product: 2 high + (low + 2^14) >> 15, without a carry out of the low one.
STROP_INLINE I16 rounded_product(I16 a, I16 b) {
  const __m128i x = bit_cast<__m128i>(a), y = bit_cast<__m128i>(b);
  const __m128i high = _mm_mulhi_epi16(x, y), low = _mm_srli_epi16(_mm_mullo_epi16(x, y), 14);
  const __m128i rounded = _mm_srli_epi16(_mm_add_epi16(low, _mm_set1_epi16(1)), 1);
  return bit_cast<I16>(_mm_add_epi16(_mm_add_epi16(high, high), rounded));
}
STROP_INLINE I16 words_of(I32 a, I32 b) {
  const I32 low = a << 16 >> 16, high = b << 16 >> 16;  // what the pack does not saturate
  return bit_cast<I16>(_mm_packs_epi32(bit_cast<__m128i>(low), bit_cast<__m128i>(high)));
}
STROP_INLINE void store_bytes(void* to, I16 words) {
  const __m128i w = bit_cast<__m128i>(words);
  _mm_storel_epi64(static_cast<__m128i*>(to), _mm_packus_epi16(w, w));
}
STROP_INLINE I16 words_from_bytes(const void* from) {
  const __m128i bytes = _mm_loadl_epi64(static_cast<const __m128i*>(from));
  return bit_cast<I16>(_mm_unpacklo_epi8(bytes, _mm_setzero_si128()));
}
STROP_INLINE I32 from_bytes(const void* from) {
  int four;
  std::memcpy(&four, from, sizeof four);
  const __m128i words = _mm_unpacklo_epi8(_mm_cvtsi32_si128(four), _mm_setzero_si128());
  return bit_cast<I32>(_mm_unpacklo_epi16(words, _mm_setzero_si128()));
}
#else
STROP_INLINE I16 rounded_product(I16 a, I16 b) {
  I16 result;
  for (int lane = 0; lane < 2 * kLanes; ++lane) {
    result[lane] = static_cast<std::int16_t>((a[lane] * b[lane] + (1 << 14)) >> 15);
  }
  return result;
}
STROP_INLINE I16 words_of(I32 a, I32 b) {
  I16 words;
  for (int lane = 0; lane < kLanes; ++lane) {
    words[lane] = static_cast<std::int16_t>(a[lane]);
    words[lane + kLanes] = static_cast<std::int16_t>(b[lane]);
  }
  return words;
}
STROP_INLINE void store_bytes(void* to, I16 words) {
  for (int lane = 0; lane < 2 * kLanes; ++lane) {
    static_cast<std::uint8_t*>(to)[lane] = static_cast<std::uint8_t>(words[lane]);
  }
}
STROP_INLINE I16 words_from_bytes(const void* from) {
  I16 words;
  for (int lane = 0; lane < 2 * kLanes; ++lane) {
    words[lane] = static_cast<const std::uint8_t*>(from)[lane];
  }
  return words;
}
STROP_INLINE I32 from_bytes(const void* from) {
  I32 lanes;
  for (int lane = 0; lane < kLanes; ++lane)
    lanes[lane] = static_cast<const std::uint8_t*>(from)[lane];
  return lanes;
}
#endif

#if defined(__SSE2__)
STROP_INLINE void stream(void* to, F32 v) { _mm_stream_ps(static_cast<float*>(to), v); }
STROP_INLINE void stream(void* to, B16 v) {
  _mm_stream_si128(static_cast<__m128i*>(to), bit_cast<__m128i>(v));
}
STROP_INLINE void stream_fence() { _mm_sfence(); }
#else
STROP_INLINE void stream(void* to, F32 v) { store_unaligned(to, v); }
STROP_INLINE void stream(void* to, B16 v) { store_unaligned(to, v); }
STROP_INLINE void stream_fence() {}
#endif
STROP_INLINE void stream(void* to, U16 v) { store_unaligned(to, v); }

}  // namespace strop::simd::STROP_ISA
