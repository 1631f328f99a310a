#pragma once

// Philox uniforms by the vector. Compiled once per instruction set.

#include "cpu/vector.h"
#include "kernels/philox.h"

namespace strop::cpu::STROP_ISA {

// Random numbers of `count` elements whose indices begin at `index`, `step` apart.
STROP_INLINE void fill_random_scalar(float* to, std::uint64_t seed, std::uint64_t index,
                                     std::uint64_t step, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, index += step) {
    to[i] = philox_uniform(seed, RandomStream::kFakeQuantize, index);
  }
}

// kLanes Philox blocks: 4 * kLanes numbers from an index that is a multiple of 4.
STROP_INLINE void fill_random_vectors(float* to, std::uint64_t seed, std::uint64_t index) {
  std::uint32_t low[kLanes], high[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::uint64_t counter = (index >> 2) + static_cast<std::uint64_t>(lane);
    low[lane] = static_cast<std::uint32_t>(counter);
    high[lane] = static_cast<std::uint32_t>(counter >> 32);
  }
  U32 c0 = load_unaligned<U32>(low), c1 = load_unaligned<U32>(high);
  U32 c2 = broadcast(static_cast<std::uint32_t>(RandomStream::kFakeQuantize));
  U32 c3 = broadcast(0u);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    U32 high0, low0, high1, low1;
    multiply_wide(c0, kPhiloxMultiplier0, high0, low0);
    multiply_wide(c2, kPhiloxMultiplier1, high1, low1);
    c0 = high1 ^ c1 ^ broadcast(k0);
    c1 = low1;
    c2 = high0 ^ c3 ^ broadcast(k1);
    c3 = low0;
    k0 += kPhiloxKeyStep0;
    k1 += kPhiloxKeyStep1;
  }
  float words[4][kLanes];
  const F32 unit = broadcast(0x1p-24f);
  const U32 outputs[4] = {c0, c1, c2, c3};
  for (int word = 0; word < 4; ++word) {
    const I32 top = bit_cast<I32>(outputs[word] >> 8);
    store_unaligned(words[word], __builtin_convertvector(top, F32) * unit);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int word = 0; word < 4; ++word) to[4 * lane + word] = words[word][lane];
  }
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

}  // namespace strop::cpu::STROP_ISA
