#pragma once

// What vectors of 16 bytes do alike, by the compiler's shuffles. Included by vector_baseline.h and
// vector_neon.h.

namespace strop::simd::STROP_ISA {

template <int kElement>
STROP_INLINE F32 splat(F32 v) {
  return __builtin_shufflevector(v, v, kElement, kElement, kElement, kElement);
}
STROP_INLINE void transpose(F32 (&v)[kLanes]) { transpose_fours(v); }

#define STROP_WORDS(name, ...) \
  STROP_INLINE I16 name(I16 a, I16 b) { return __builtin_shufflevector(a, b, __VA_ARGS__); }
STROP_WORDS(zip_words, 0, 8, 1, 9, 2, 10, 3, 11)
STROP_WORDS(zip_words_high, 4, 12, 5, 13, 6, 14, 7, 15)
STROP_WORDS(zip_pairs, 0, 1, 8, 9, 2, 3, 10, 11)
STROP_WORDS(zip_pairs_high, 4, 5, 12, 13, 6, 7, 14, 15)
STROP_WORDS(zip_fours, 0, 1, 2, 3, 8, 9, 10, 11)
STROP_WORDS(zip_fours_high, 4, 5, 6, 7, 12, 13, 14, 15)
#undef STROP_WORDS

STROP_INLINE I16 zip_bytes(I16 a, I16 b) {
  return bit_cast<I16>(__builtin_shufflevector(bit_cast<B16>(a), bit_cast<B16>(b), 0, 16, 1, 17, 2,
                                               18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
}

template <int kFirst, int kSecond>
STROP_INLINE I16 weighted_bytes(I16 v) {
  using U16x8 = std::uint16_t __attribute__((vector_size(16)));
  const I16 first = v & broadcast(std::int16_t{0xff});
  const I16 second = bit_cast<I16>(bit_cast<U16x8>(v) >> 8);
  return second * broadcast(std::int16_t{kSecond}) + first * broadcast(std::int16_t{kFirst});
}

STROP_INLINE I16 gathered_eights(const std::uint8_t* base, const std::int32_t* offset) {
  I16 v{};
  std::memcpy(&v, base + offset[0], 8);
  return v;
}
STROP_INLINE I32 gathered(const std::uint8_t* base, const std::int32_t* offset) {
  I32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = load_unaligned<std::int32_t>(base + offset[i]);
  return v;
}
STROP_INLINE F32 gathered(const float* base, const std::int32_t* offset) {
  F32 v;
  for (int i = 0; i < kLanes; ++i) v[i] = base[offset[i]];
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
STROP_INLINE I32 products_of_words(I32 a, I32 b) {
  const auto low = [](I32 v) { return (v << 16) >> 16; };
  return low(a) * low(b) + (a >> 16) * (b >> 16);
}

}  // namespace strop::simd::STROP_ISA
