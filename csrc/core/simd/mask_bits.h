#pragma once

// Bits of a mask: written wherever a run of elements begins, and turned into lanes. Compiled once
// per instruction set.

#include "core/simd/vector.h"

namespace strop::simd::STROP_ISA {

// A byte that other runs, perhaps of other threads, have bits in as well.
STROP_INLINE void add_bits(std::uint8_t* byte, std::uint32_t bits) {
  __atomic_fetch_or(byte, static_cast<std::uint8_t>(bits), __ATOMIC_RELAXED);
}

// The first `count` of `bits` to the mask's bits from `at` on, which are 0. Not inlined: it is
// called once for many elements.
[[maybe_unused]] __attribute__((noinline)) static void put_bits(std::uint8_t* mask, std::int64_t at,
                                                                const std::uint8_t* bits,
                                                                std::int64_t count) {
  std::uint8_t* const to = mask + at / 8;
  const int shift = static_cast<int>(at % 8);
  const std::int64_t sources = (count + 7) / 8;
  const std::int64_t bytes = (shift + count + 7) / 8;
  const auto source = [&](std::int64_t i) -> std::uint32_t {
    if (i < 0 || i >= sources) return 0;
    const bool rest = i == count / 8;  // of the last byte only some are bits of ours
    return rest ? bits[i] & ((1u << count % 8) - 1) : bits[i];
  };
  for (std::int64_t i = 0; i < bytes; ++i) {
    const std::uint32_t value = (source(i) << shift | source(i - 1) >> (8 - shift)) & 0xffu;
    if (i == 0 || i + 1 == bytes) {
      add_bits(to + i, value);
    } else {
      to[i] = static_cast<std::uint8_t>(value);
    }
  }
}

// Gathers bits, and puts them 64 at a time.
struct BitWriter {
  std::uint8_t* mask;
  std::int64_t at;
  std::uint64_t word = 0;
  int held = 0;

  // Calls have kLanes bits each, but for the last.
  __attribute__((always_inline)) void add(std::uint32_t bits, int count) {
    word |= std::uint64_t{bits} << held;
    held += count;
    if (held == 64) flush();
  }
  __attribute__((always_inline)) void flush() {
    if (held == 0) return;
    std::uint8_t bytes[8];
    std::memcpy(bytes, &word, sizeof bytes);  // low bits first: every target is little-endian
    put_bits(mask, at, bytes, held);
    at += held;
    word = 0;
    held = 0;
  }
};

}  // namespace strop::simd::STROP_ISA
