#pragma once

// AArch64 Advanced SIMD. Included by vector.h.

#include <arm_neon.h>

#include "core/simd/vector_sixteen.h"

// The constraint of inline assembly for a vector register.
#define STROP_REGISTER "w"

namespace strop::simd::STROP_ISA {

STROP_INLINE F32 round_half_even(F32 v) {
  return bit_cast<F32>(vrndnq_f32(bit_cast<float32x4_t>(v)));
}
STROP_INLINE F32 round_down(F32 v) { return bit_cast<F32>(vrndmq_f32(bit_cast<float32x4_t>(v))); }
STROP_INLINE F32 round_toward_zero(F32 v) {
  return bit_cast<F32>(vrndq_f32(bit_cast<float32x4_t>(v)));
}

// FMAX and FMIN return NaN if either operand is; a bound never is.
STROP_INLINE F32 max(F32 bound, F32 v) {
  return bit_cast<F32>(vmaxq_f32(bit_cast<float32x4_t>(bound), bit_cast<float32x4_t>(v)));
}
STROP_INLINE F32 min(F32 bound, F32 v) {
  return bit_cast<F32>(vminq_f32(bit_cast<float32x4_t>(bound), bit_cast<float32x4_t>(v)));
}

STROP_INLINE F32 multiply_plus_zero(F32 a, F32 b) {
  return bit_cast<F32>(
      vfmaq_f32(vdupq_n_f32(0.0f), bit_cast<float32x4_t>(a), bit_cast<float32x4_t>(b)));
}

STROP_INLINE F32 multiply_add(F32 a, F32 b, F32 c) {
  return bit_cast<F32>(
      vfmaq_f32(bit_cast<float32x4_t>(c), bit_cast<float32x4_t>(a), bit_cast<float32x4_t>(b)));
}

STROP_INLINE U32 join_halves(U32 low, U32 high) {
  return bit_cast<U32>(
      vbslq_u32(vdupq_n_u32(0xffffu), bit_cast<uint32x4_t>(low), bit_cast<uint32x4_t>(high)));
}

STROP_INLINE I16 larger(I16 a, I16 b) {
  return bit_cast<I16>(vmaxq_s16(bit_cast<int16x8_t>(a), bit_cast<int16x8_t>(b)));
}
STROP_INLINE I16 smaller(I16 a, I16 b) {
  return bit_cast<I16>(vminq_s16(bit_cast<int16x8_t>(a), bit_cast<int16x8_t>(b)));
}
STROP_INLINE I32 larger(I32 a, I32 b) {
  return bit_cast<I32>(vmaxq_s32(bit_cast<int32x4_t>(a), bit_cast<int32x4_t>(b)));
}
STROP_INLINE I32 smaller(I32 a, I32 b) {
  return bit_cast<I32>(vminq_s32(bit_cast<int32x4_t>(a), bit_cast<int32x4_t>(b)));
}
STROP_INLINE std::int32_t largest(I32 v) { return vmaxvq_s32(bit_cast<int32x4_t>(v)); }
STROP_INLINE std::int32_t smallest(I32 v) { return vminvq_s32(bit_cast<int32x4_t>(v)); }

STROP_INLINE I32 largest_of_each(const I32 (&v)[kLanes]) {
  const auto at = [&](int i) { return bit_cast<int32x4_t>(v[i]); };
  return bit_cast<I32>(vpmaxq_s32(vpmaxq_s32(at(0), at(1)), vpmaxq_s32(at(2), at(3))));
}
STROP_INLINE I32 smallest_of_each(const I32 (&v)[kLanes]) {
  const auto at = [&](int i) { return bit_cast<int32x4_t>(v[i]); };
  return bit_cast<I32>(vpminq_s32(vpminq_s32(at(0), at(1)), vpminq_s32(at(2), at(3))));
}

STROP_INLINE std::uint32_t lane_bits(I32 mask) {
  const uint32x4_t bit = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(bit_cast<uint32x4_t>(mask), bit));
}
STROP_INLINE std::uint32_t half_lane_bits(I16 mask) {
  const uint16x8_t bit = {1, 2, 4, 8, 16, 32, 64, 128};
  return vaddvq_u16(vandq_u16(bit_cast<uint16x8_t>(mask), bit));
}

STROP_INLINE F32 from_bfloat16(U16 half) {
  return bit_cast<F32>(vshll_n_u16(bit_cast<uint16x4_t>(half), 16));
}

// Not BFCVT: it is an extension, and the bits of a NaN would differ.
STROP_INLINE U16 to_bfloat16(F32 v) {
  const U32 bits = bit_cast<U32>(v);
  const U32 rounded = (bits + broadcast(0x7fffu) + ((bits >> 16) & broadcast(1u))) >> 16;
  const U32 nan = (bits >> 16) | broadcast(0x40u);
  return bit_cast<U16>(vmovn_u32(bit_cast<uint32x4_t>(select(I32(v != v), nan, rounded))));
}

STROP_INLINE F32 from_float16(U16 half) {
  return bit_cast<F32>(vcvt_f32_f16(bit_cast<float16x4_t>(half)));
}
STROP_INLINE U16 to_float16(F32 v) { return bit_cast<U16>(vcvt_f16_f32(bit_cast<float32x4_t>(v))); }

STROP_INLINE U64 multiply_low_words(U64 a, std::uint32_t b) {
  return bit_cast<U64>(vmull_n_u32(vmovn_u64(bit_cast<uint64x2_t>(a)), b));
}

STROP_INLINE I16 rounded_product(I16 a, I16 b) {
  return bit_cast<I16>(vqrdmulhq_s16(bit_cast<int16x8_t>(a), bit_cast<int16x8_t>(b)));
}

STROP_INLINE I16 words_of(I32 a, I32 b) {
  return bit_cast<I16>(
      vcombine_u16(vmovn_u32(bit_cast<uint32x4_t>(a)), vmovn_u32(bit_cast<uint32x4_t>(b))));
}
STROP_INLINE void store_bytes(void* to, I16 words) {
  vst1_u8(static_cast<std::uint8_t*>(to), vmovn_u16(bit_cast<uint16x8_t>(words)));
}
STROP_INLINE I16 words_from_bytes(const void* from) {
  return bit_cast<I16>(vmovl_u8(vld1_u8(static_cast<const std::uint8_t*>(from))));
}
STROP_INLINE I32 from_bytes(const void* from) {
  std::uint32_t four;
  std::memcpy(&four, from, sizeof four);
  return bit_cast<I32>(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}

// The core detects streams of full lines and stops allocating them by itself.
STROP_INLINE void stream(void* to, F32 v) { store_unaligned(to, v); }
STROP_INLINE void stream(void* to, U16 v) { store_unaligned(to, v); }
STROP_INLINE void stream(void* to, B16 v) { store_unaligned(to, v); }
STROP_INLINE void stream_fence() {}

}  // namespace strop::simd::STROP_ISA
