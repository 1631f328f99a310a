#pragma once

// Philox uniforms by the vector. Compiled once per instruction set.

#include "core/philox.h"
#include "core/simd/vector.h"

namespace strop::simd::STROP_ISA {

// Random numbers of `count` elements whose indices begin at `index`, `step` apart.
STROP_INLINE void fill_random_scalar(float* to, std::uint64_t seed, std::uint64_t index,
                                     std::uint64_t step, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, index += step) {
    to[i] = philox_uniform(seed, RandomStream::kFakeQuantize, index);
  }
}

// Philox blocks side by side, each word in the low half of a lane of 64 bits, where a
// multiplication leaves its product whole; what is in the high halves is never looked at.
struct PhiloxLanes {
  U64 c0, c1, c2, c3;

  __attribute__((always_inline)) void round(std::uint32_t k0, std::uint32_t k1) {
    const U64 p0 = multiply_low_words(c0, kPhiloxMultiplier0);
    const U64 p1 = multiply_low_words(c2, kPhiloxMultiplier1);
    c0 = (p1 >> 32) ^ c1 ^ broadcast(std::uint64_t{k0});
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ broadcast(std::uint64_t{k1});
    c3 = p0;
  }

  // A block's four words are four consecutive numbers.
  __attribute__((always_inline)) void store_uniforms(float* to) const {
    const U64 low = broadcast(std::uint64_t{0xffffffffu});
    const U64 first = (c0 & low) | c1 << 32, second = (c2 & low) | c3 << 32;
    store_uniform(to, interleaved_low(first, second));
    store_uniform(to + kLanes, interleaved_high(first, second));
  }

 private:
  template <class V>  // a template, for only its own instruction set's branch to be looked at
  STROP_INLINE V interleaved_low(V a, V b) {
    constexpr int kCount = sizeof(V) / 8;
    if constexpr (kCount == 8) return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    if constexpr (kCount == 4) return __builtin_shufflevector(a, b, 0, 4, 1, 5);
    if constexpr (kCount == 2) return __builtin_shufflevector(a, b, 0, 2);
  }
  template <class V>
  STROP_INLINE V interleaved_high(V a, V b) {
    constexpr int kCount = sizeof(V) / 8;
    if constexpr (kCount == 8) return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    if constexpr (kCount == 4) return __builtin_shufflevector(a, b, 2, 6, 3, 7);
    if constexpr (kCount == 2) return __builtin_shufflevector(a, b, 1, 3);
  }
  STROP_INLINE void store_uniform(float* to, U64 words) {
    const I32 top = bit_cast<I32>(bit_cast<U32>(words) >> 8);
    store_unaligned(to, __builtin_convertvector(top, F32) * broadcast(0x1p-24f));
  }
};

// 4 * kLanes numbers from an index that is a multiple of 4: two chains, each of them a long
// latency.
STROP_INLINE void fill_random_vectors(float* to, std::uint64_t seed, std::uint64_t index) {
  constexpr int kBlocks = kLanes / 2;
  PhiloxLanes chains[2];
  for (int chain = 0; chain < 2; ++chain) {
    U64 counter = broadcast((index >> 2) + static_cast<std::uint64_t>(chain * kBlocks));
    for (int lane = 0; lane < kBlocks; ++lane) counter[lane] += static_cast<std::uint64_t>(lane);
    const auto stream = static_cast<std::uint64_t>(RandomStream::kFakeQuantize);
    chains[chain] = {counter, counter >> 32, broadcast(stream), U64{}};
  }
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (PhiloxLanes& chain : chains) chain.round(k0, k1);
    k0 += kPhiloxKeyStep0;
    k1 += kPhiloxKeyStep1;
  }
  chains[0].store_uniforms(to);
  chains[1].store_uniforms(to + 2 * kLanes);
}

STROP_INLINE void fill_random(float* to, std::uint64_t seed, std::uint64_t index,
                              std::uint64_t step, std::int64_t count) {
  if (step != 1) return fill_random_scalar(to, seed, index, step, count);
  std::int64_t head = static_cast<std::int64_t>((4 - index % 4) % 4);
  if (head > count) head = count;
  fill_random_scalar(to, seed, index, 1, head);
  std::int64_t i = head;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    fill_random_vectors(to + i, seed, index + static_cast<std::uint64_t>(i));
  }
  fill_random_scalar(to + i, seed, index + static_cast<std::uint64_t>(i), 1, count - i);
}

}  // namespace strop::simd::STROP_ISA
