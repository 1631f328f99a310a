#pragma once

#include <cstdint>

#include "core/portability.h"

namespace strop {

// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011):
// a random number is a function of (seed, stream, index), so that no result depends on how work is
// split, nor on the device.
//
//   key     = seed low word, seed high word
//   counter = (index >> 2) low word, high word, stream, 0
//   word    = index & 3 of the four that come out
enum class RandomStream : std::uint32_t {
  kFakeQuantize = 0,
};

struct PhiloxBlock {
  std::uint32_t word[4];
};

inline constexpr int kPhiloxRounds = 10;
inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kPhiloxKeyStep0 = 0x9E3779B9u;
inline constexpr std::uint32_t kPhiloxKeyStep1 = 0xBB67AE85u;

STROP_INLINE PhiloxBlock philox(std::uint64_t seed, RandomStream stream, std::uint64_t counter) {
  std::uint32_t c0 = static_cast<std::uint32_t>(counter);
  std::uint32_t c1 = static_cast<std::uint32_t>(counter >> 32);
  std::uint32_t c2 = static_cast<std::uint32_t>(stream);
  std::uint32_t c3 = 0;
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxMultiplier0} * c0;
    const std::uint64_t p1 = std::uint64_t{kPhiloxMultiplier1} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += kPhiloxKeyStep0;
    k1 += kPhiloxKeyStep1;
  }
  return {{c0, c1, c2, c3}};
}

// [0, 1) from the top 24 bits: exact in float32.
STROP_INLINE float uniform_from_word(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

STROP_INLINE float philox_uniform(std::uint64_t seed, RandomStream stream, std::uint64_t index) {
  const PhiloxBlock block = philox(seed, stream, index >> 2);
  return uniform_from_word(block.word[index & 3]);
}

}  // namespace strop
