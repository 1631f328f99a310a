#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "core/philox.h"

namespace strop::quantize::reference {

// A number of [0, 1): Philox4x32-10 once more, of the counter and key that core/philox.h states.
inline float uniform_number(std::uint64_t seed, RandomStream stream, std::uint64_t index) {
  using Word = std::uint32_t;
  std::array<Word, 4> counter = {static_cast<Word>(index / 4), static_cast<Word>(index / 4 >> 32),
                                 static_cast<Word>(stream), 0};
  std::array<Word, 2> key = {static_cast<Word>(seed), static_cast<Word>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<Word>(b >> 32) ^ counter[1] ^ key[0], static_cast<Word>(b),
               static_cast<Word>(a >> 32) ^ counter[3] ^ key[1], static_cast<Word>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return std::ldexp(static_cast<float>(counter[index % 4] / 256), -24);
}

}  // namespace strop::quantize::reference
