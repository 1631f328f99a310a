#pragma once

// Vectors of float32 for the instruction set that this translation unit is compiled for. Arithmetic
// is the compiler's vector extension (g++ and clang++ alike); what that cannot say, rounding,
// conversions, reductions and streaming stores, has one header an instruction set.
//
// Only sources that are compiled once per instruction set include this. Everything lives in the
// namespace STROP_ISA of that set: see Note [No shared inline code].

#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "core/portability.h"

#if !defined(STROP_ISA)
#error "STROP_ISA names the instruction set's namespace: baseline, avx2, avx512 or neon"
#endif

namespace strop::simd::STROP_ISA {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif
inline constexpr int kLanes = kVectorBytes / 4;

using F32 = float __attribute__((vector_size(kVectorBytes)));
using I32 = std::int32_t __attribute__((vector_size(kVectorBytes)));
using U32 = std::uint32_t __attribute__((vector_size(kVectorBytes)));
using U64 = std::uint64_t __attribute__((vector_size(kVectorBytes)));      // kLanes / 2 of them
using U16 = std::uint16_t __attribute__((vector_size(kVectorBytes / 2)));  // kLanes of them
using I16 = std::int16_t __attribute__((vector_size(kVectorBytes)));       // 2 * kLanes of them

template <class To, class From>
STROP_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class V>
STROP_INLINE V load_unaligned(const void* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <class V>
STROP_INLINE void store_unaligned(void* to, V v) {
  std::memcpy(to, &v, sizeof v);
}

// Lanes of a where the mask is all ones, of b where it is 0.
STROP_INLINE U32 select(I32 mask, U32 a, U32 b) {
  const U32 m = bit_cast<U32>(mask);
  return (a & m) | (b & ~m);
}
STROP_INLINE F32 select(I32 mask, F32 a, F32 b) {
  return bit_cast<F32>(select(mask, bit_cast<U32>(a), bit_cast<U32>(b)));
}

STROP_INLINE F32 broadcast(float value) { return F32{} + value; }
STROP_INLINE U32 broadcast(std::uint32_t value) { return U32{} + value; }
// One element in every lane. (As an integer: a sum with 0 would be computed, for -0.)
STROP_INLINE F32 broadcast_from(const float* from) {
  return bit_cast<F32>(broadcast(load_unaligned<std::uint32_t>(from)));
}
STROP_INLINE U64 broadcast(std::uint64_t value) { return U64{} + value; }
STROP_INLINE I32 broadcast(std::int32_t value) { return I32{} + value; }
STROP_INLINE I16 broadcast(std::int16_t value) { return I16{} + value; }

// 16 bytes, however long a vector is.
using B16 = std::uint8_t __attribute__((vector_size(16)));
using F32x4 = float __attribute__((vector_size(16)));

// The matrix of four vectors of four, turned over.
STROP_INLINE void transpose_fours(F32x4 (&v)[4]) {
  const F32x4 a = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5);
  const F32x4 b = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
  const F32x4 c = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5);
  const F32x4 d = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
  v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  v[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  v[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

}  // namespace strop::simd::STROP_ISA

// Each defines, in namespace STROP_ISA:
//   F32 round_half_even(F32), round_down(F32), round_toward_zero(F32)
//   F32 max(F32 bound, F32 v), min(F32 bound, F32 v)      NaN in v stays
//   I32 larger(I32, I32), smaller(I32, I32); std::int32_t largest(I32), smallest(I32)
//   I16 larger(I16, I16), smaller(I16, I16)
//   F32 multiply_plus_zero(F32 a, F32 b)               a * b + 0, rounded once
//   U32 join_halves(U32 low, U32 high)                 low 16 bits of the one, high of the other
//   I32 largest_of_each(const I32 (&)[kLanes]), smallest_of_each    lane i is of the i-th vector
//   std::uint32_t lane_bits(I32 mask), half_lane_bits(I16 mask)    a bit a lane, lane 0 lowest
//   F32 from_bfloat16(U16), from_float16(U16); U16 to_bfloat16(F32), to_float16(F32)
//   I16 words_of(I32 a, I32 b)                         the low 16 bits of each, in order
//   void store_bytes(void*, I16 words)                 words below 256
//   I16 words_from_bytes(const void*); I32 from_bytes(const void*)
//   F32 multiply_add(F32 a, F32 b, F32 c)             a * b + c, rounded once where there is an FMA
//   F32 four_repeated(const T*)    four numbers, again and again; where they fill a vector, below
//   F32 splat<i>(F32)                                  element i of each four
//   void transpose(F32 (&)[kLanes])
//   F32 permuted(F32 table, I32 index)    lane i is table[index[i] % kLanes]; AVX2, AVX-512
//   U64 multiply_low_words(U64 a, std::uint32_t b)     of the low 32 bits of each lane
//   void stream(void*, F32), stream(void*, U16), stream(void*, B16)   `to` aligned to the vector
//   void stream_fence()
//
// Words and bytes, within each 16 bytes where they are shuffled:
//   I16 rounded_product(I16 a, I16 b)                  (a b + 2^14) >> 15
//   I16 weighted_bytes<i, j>(I16)      i times the first, j times the second byte of each word
//   I32 products_of_words(I32 a, I32 b)                the sums of the products of each two words
//   I16 zip_bytes(a, b), zip_words(a, b), zip_words_high(a, b), zip_pairs..., zip_fours...
//                                      a0 b0 a1 b1 ... of the first half, or of the other one
//   I16 repeated_pair<i>(I16)                          words 2 i and 2 i + 1, again and again
//   I32 from_words(const void*)                        kLanes of them
//   I32 gathered(const u8*, const i32* offset), F32 gathered(const float*, const i32* offset)
//   I16 gathered_eights(const u8*, const i32* offset)  8 bytes at each 16: of offset[0], [4], ...
#if defined(__AVX512F__)
#include "core/simd/vector_avx512.h"
#elif defined(__AVX2__)
#include "core/simd/vector_avx2.h"
#elif defined(STROP_NEON)
#include "core/simd/vector_neon.h"
#else
#include "core/simd/vector_baseline.h"
#endif

namespace strop::simd::STROP_ISA {

#if defined(__AVX2__)
STROP_INLINE F32x4 four(const float* from) { return _mm_loadu_ps(from); }
// (a word below which there is 0 is a float)
STROP_INLINE F32x4 four(const BFloat16* from) {
  const __m128i words = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return bit_cast<F32x4>(_mm_unpacklo_epi16(_mm_setzero_si128(), words));
}
STROP_INLINE F32x4 four(const Float16* from) {
  return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
}
#else
STROP_INLINE F32 four_repeated(const float* from) { return load_unaligned<F32>(from); }
STROP_INLINE F32 four_repeated(const BFloat16* from) {
  return from_bfloat16(load_unaligned<U16>(from));
}
STROP_INLINE F32 four_repeated(const Float16* from) {
  return from_float16(load_unaligned<U16>(from));
}

template <class T>
STROP_INLINE F32x4 four(const T* from) {
  return four_repeated(from);
}
#endif

// kLanes floats, with the operations that the shared arithmetic of kernels/ asks of a number.
struct Vec {
  F32 v;

  Vec() = default;
  STROP_INLINE Vec wrap(F32 raw) {
    Vec result;
    result.v = raw;
    return result;
  }
  __attribute__((always_inline)) explicit Vec(float value) : v(broadcast(value)) {}
};

STROP_INLINE Vec operator+(Vec a, Vec b) { return Vec::wrap(a.v + b.v); }
STROP_INLINE Vec operator-(Vec a, Vec b) { return Vec::wrap(a.v - b.v); }
STROP_INLINE Vec operator*(Vec a, Vec b) { return Vec::wrap(a.v * b.v); }
STROP_INLINE Vec operator/(Vec a, Vec b) { return Vec::wrap(a.v / b.v); }

STROP_INLINE Vec round_half_even(Vec a) { return Vec::wrap(round_half_even(a.v)); }
STROP_INLINE Vec round_down(Vec a) { return Vec::wrap(round_down(a.v)); }
STROP_INLINE Vec round_toward_zero(Vec a) { return Vec::wrap(round_toward_zero(a.v)); }
STROP_INLINE Vec max(Vec bound, Vec a) { return Vec::wrap(max(bound.v, a.v)); }
STROP_INLINE Vec min(Vec bound, Vec a) { return Vec::wrap(min(bound.v, a.v)); }

STROP_INLINE Vec multiply_plus_zero(Vec a, Vec b) {
  return Vec::wrap(multiply_plus_zero(a.v, b.v));
}

STROP_INLINE Vec magnitude(Vec a) {
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(a.v) & broadcast(0x7fffffffu)));
}
STROP_INLINE Vec copysign(Vec value, Vec sign) {
  const U32 bit = bit_cast<U32>(sign.v) & broadcast(0x80000000u);
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(magnitude(value).v) | bit));
}
STROP_INLINE I32 eq(Vec a, Vec b) { return I32(a.v == b.v); }
STROP_INLINE I32 lt(Vec a, Vec b) { return I32(a.v < b.v); }
STROP_INLINE Vec select(I32 mask, Vec a, Vec b) { return Vec::wrap(select(mask, a.v, b.v)); }

// The first half's lanes of a, the others of b.
STROP_INLINE Vec halves(Vec a, Vec b) {
  I32 first{};
  for (int lane = 0; lane < kLanes / 2; ++lane) first[lane] = -1;
  return select(first, a, b);
}

STROP_INLINE Vec one_where_less(Vec a, Vec b) {
  const U32 one = bit_cast<U32>(broadcast(1.0f));
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(I32(a.v < b.v)) & one));
}

STROP_INLINE Vec power_of_two_below(Vec a) {
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(a.v) & broadcast(0x7f800000u)));
}
STROP_INLINE Vec inverse_of_power(Vec a) {
  return Vec::wrap(bit_cast<F32>(broadcast(0x7f000000u) - bit_cast<U32>(a.v)));
}
STROP_INLINE Vec set_sign(Vec value, Vec sign) {
  const U32 bit = bit_cast<U32>(sign.v) & broadcast(0x80000000u);
  return Vec::wrap(bit_cast<F32>(bit_cast<U32>(value.v) | bit));
}

STROP_INLINE void prefetch(const void* at) { __builtin_prefetch(at, 0, 3); }
STROP_INLINE void prefetch_to_write(const void* at) { __builtin_prefetch(at, 1, 3); }

// Elements of a storage type, kLanes at a time.
STROP_INLINE Vec load(const float* from) { return Vec::wrap(load_unaligned<F32>(from)); }
STROP_INLINE Vec load(const BFloat16* from) {
  return Vec::wrap(from_bfloat16(load_unaligned<U16>(from)));
}
STROP_INLINE Vec load(const Float16* from) {
  return Vec::wrap(from_float16(load_unaligned<U16>(from)));
}

STROP_INLINE F32 to_storage(const float*, Vec a) { return a.v; }
STROP_INLINE U16 to_storage(const BFloat16*, Vec a) { return to_bfloat16(a.v); }
STROP_INLINE U16 to_storage(const Float16*, Vec a) { return to_float16(a.v); }

template <bool kStream, class T>
STROP_INLINE void store(T* to, Vec a) {
  if constexpr (kStream) {
    stream(to, to_storage(to, a));
  } else {
    store_unaligned(to, to_storage(to, a));
  }
}

// 2 * kLanes consecutive elements as two vectors. For bfloat16 one holds the even and one the odd
// elements, which costs no shuffle: use pairs where the order of lanes does not matter.
struct Pair {
  Vec a;
  Vec b;
};

template <class T>
STROP_INLINE Pair load_pair(const T* from) {
  return {load(from), load(from + kLanes)};
}
STROP_INLINE Pair load_pair(const BFloat16* from) {
  const U32 both = load_unaligned<U32>(from);
  return {Vec::wrap(bit_cast<F32>(both << 16)),
          Vec::wrap(bit_cast<F32>(both & broadcast(0xffff0000u)))};
}

template <class T>
inline constexpr bool kPairsInterleave = dtype_of<T> == DType::kBFloat16;

// A mask for each vector of a pair, as bits in the order of the elements.
template <class T>
STROP_INLINE std::uint32_t pair_bits(const T*, I32 a, I32 b) {
  return lane_bits(a) | lane_bits(b) << kLanes;
}
STROP_INLINE std::uint32_t pair_bits(const BFloat16*, I32 even, I32 odd) {
  return half_lane_bits(bit_cast<I16>(join_halves(bit_cast<U32>(even), bit_cast<U32>(odd))));
}

template <bool kStream, class T>
STROP_INLINE void store_pair(T* to, Pair pair) {
  store<kStream>(to, pair.a);
  store<kStream>(to + kLanes, pair.b);
}

// Rounds in 16-bit lanes, both vectors' at once: up where what is cut off exceeds half, or is half
// and the rest odd. A NaN must have a payload that this cannot overflow, as results of arithmetic
// on bfloat16 values and on the default NaN have: nothing looks for one.
template <bool kStream>
STROP_INLINE void store_pair(BFloat16* to, Pair pair) {
  const U32 even = bit_cast<U32>(pair.a.v), odd = bit_cast<U32>(pair.b.v);
  const I16 kept = bit_cast<I16>(join_halves(even >> 16, odd));
  const I16 rest = bit_cast<I16>(join_halves(even, odd << 16) ^ broadcast(0x80008000u));
  const I16 odd_kept = kept & broadcast(std::int16_t{1});
  const I16 rounded = kept - I16(rest > -odd_kept);  // a true lane is -1
  if constexpr (kStream) {
    stream(to, bit_cast<F32>(rounded));
  } else {
    store_unaligned(to, rounded);
  }
}

template <class T>
STROP_INLINE bool aligned_for_stream(const T* to) {
  constexpr std::uintptr_t kBytes = sizeof(T) == 4 ? kVectorBytes : kVectorBytes / 2;
  return reinterpret_cast<std::uintptr_t>(to) % (kPairsInterleave<T> ? kVectorBytes : kBytes) == 0;
}

// The first `count` elements, count < kLanes; the other lanes are 0 and stay unwritten.
template <class T>
STROP_INLINE Vec load_first(const T* from, std::int64_t count) {
  T lanes[kLanes] = {};
  std::memcpy(lanes, from, static_cast<std::size_t>(count) * sizeof(T));
  return load(lanes);
}

template <class T>
STROP_INLINE void store_first(T* to, Vec a, std::int64_t count) {
  T lanes[kLanes];
  store<false>(lanes, a);
  std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(T));
}

STROP_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
  return Vec::wrap(multiply_add(a.v, b.v, c.v));
}

// Has the compiler hold a vector in a register, where it would rather load it again.
#if defined(__AVX512F__)
STROP_INLINE void keep_in_mask(__mmask16& mask) { asm("" : "+k"(mask)); }
#endif
template <class V>
STROP_INLINE void keep_in_register(V& v) {
  asm("" : "+" STROP_REGISTER(v));
}
// A pointer: what is added to it stays part of addresses, and takes no registers of its own.
STROP_INLINE void keep_in_register(const float*& pointer) { asm("" : "+r"(pointer)); }
// What was stored at `at` is there for an instruction of which the compiler does not know that it
// reads it, as those of tiles are to g++.
STROP_INLINE void keep_in_memory(const void* at) { asm volatile("" : : "r"(at) : "memory"); }

}  // namespace strop::simd::STROP_ISA
