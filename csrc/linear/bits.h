#pragma once

#include <cstdint>
#include <cstring>

#include "core/portability.h"

namespace strop::linear {

// Up to 64 bits of a row's bytes, from byte `at` on; those beyond `bytes` are 0.
STROP_INLINE std::uint64_t bits_at(const std::uint8_t* row, std::int64_t at, std::int64_t bytes) {
  std::uint64_t word = 0;
  const std::int64_t left = bytes - at;
  std::memcpy(&word, row + at, static_cast<std::size_t>(left < 8 ? left : 8));
  return word;
}

STROP_INLINE int count_bits(std::uint64_t word) { return __builtin_popcountll(word); }

// Calls function(position) for each bit that is set, lowest first.
template <class Function>
STROP_INLINE void for_each_bit(std::uint64_t word, Function&& function) {
  for (; word != 0; word &= word - 1) function(__builtin_ctzll(word));
}

}  // namespace strop::linear
