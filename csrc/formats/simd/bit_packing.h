#pragma once

// Codes of a byte each to codes of few bits, densely, and back. Compiled once per instruction set.

#include "core/simd/vector.h"

namespace strop::simd::STROP_ISA {

// Eight codes of a byte each as one number of 8 * bits bits, in three steps of halves; and back.
template <class V>
STROP_INLINE V eight_packed(V codes, int bits) {
  const auto mask = [](std::uint64_t pattern) { return V{} + pattern; };
  V x = codes & mask((0x0101010101010101u << bits) - 0x0101010101010101u);
  x = (x & mask(0x00ff00ff00ff00ffu)) | (x >> 8 & mask(0x00ff00ff00ff00ffu)) << bits;
  x = (x & mask(0x0000ffff0000ffffu)) | (x >> 16 & mask(0x0000ffff0000ffffu)) << (2 * bits);
  return (x & mask(0x00000000ffffffffu)) | x >> 32 << (4 * bits);
}

template <class V>
STROP_INLINE V eight_unpacked(V packed, int bits) {
  const auto ones = [](int count) { return (std::uint64_t{1} << count) - 1; };
  const auto mask = [](std::uint64_t pattern) { return V{} + pattern; };
  const std::uint64_t four = ones(4 * bits), two = ones(2 * bits), one = ones(bits);
  V x = (packed & mask(four)) | (packed >> (4 * bits) & mask(four)) << 32;
  x = (x & mask(two | two << 32)) | (x >> (2 * bits) & mask(two | two << 32)) << 16;
  const std::uint64_t each = one * 0x0001000100010001u;
  return (x & mask(each)) | (x >> bits & mask(each)) << 8;
}

// The last codes of a row, fewer than a vector's.
STROP_INLINE void pack_rest(const std::uint8_t* codes, std::int64_t count, int bits,
                            std::uint8_t* to) {
  for (; count > 0; codes += 8, to += bits, count -= 8) {
    const std::int64_t here = count < 8 ? count : 8;
    std::uint64_t eight = 0;
    std::memcpy(&eight, codes, static_cast<std::size_t>(here));
    eight = eight_packed(eight, bits);
    std::memcpy(to, &eight, static_cast<std::size_t>((here * bits + 7) / 8));
  }
}

STROP_INLINE void unpack_rest(const std::uint8_t* from, std::int64_t count, int bits,
                              std::uint8_t* codes) {
  for (; count > 0; codes += 8, from += bits, count -= 8) {
    const std::int64_t here = count < 8 ? count : 8;
    std::uint64_t eight = 0;
    std::memcpy(&eight, from, static_cast<std::size_t>((here * bits + 7) / 8));
    eight = eight_unpacked(eight, bits);
    std::memcpy(codes, &eight, static_cast<std::size_t>(here));
  }
}

// A row of `count` codes, of which bits beyond `bits` are ignored.
inline void pack_row(const std::uint8_t* codes, std::int64_t count, int bits, std::uint8_t* to) {
  std::int64_t i = 0;
  if (bits == 8) {
    std::memcpy(to, codes, static_cast<std::size_t>(count));
    return;
  }
  if (bits == 4) {
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
      const I16 pairs = load_unaligned<I16>(codes + i);
      const I16 low = pairs & broadcast(std::int16_t{0x0f});
      store_bytes(to + i / 2, low | (pairs >> 4 & broadcast(std::int16_t{0xf0})));
    }
  } else {
    // Eight bytes are written for each `bits` of them: the next eight codes' overwrite the others.
    for (; i + 4 * kLanes + 64 <= count; i += 4 * kLanes) {
      const U64 eights = eight_packed(load_unaligned<U64>(codes + i), bits);
      for (int lane = 0; lane < kLanes / 2; ++lane) {
        const std::uint64_t eight = eights[lane];
        std::memcpy(to + (i / 8 + lane) * bits, &eight, sizeof eight);
      }
    }
  }
  pack_rest(codes + i, count - i, bits, to + i / 8 * bits);
}

inline void unpack_row(const std::uint8_t* from, std::int64_t count, int bits,
                       std::uint8_t* codes) {
  std::int64_t i = 0;
  if (bits == 8) {
    std::memcpy(codes, from, static_cast<std::size_t>(count));
    return;
  }
  if (bits == 4) {
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
      const I16 bytes = words_from_bytes(from + i / 2);
      const I16 pairs = (bytes | bytes << 4) & broadcast(std::int16_t{0x0f0f});
      store_unaligned(codes + i, pairs);
    }
  } else {
    for (; i + 4 * kLanes + 64 <= count; i += 4 * kLanes) {
      U64 eights{};
      for (int lane = 0; lane < kLanes / 2; ++lane) {
        std::uint64_t eight;
        std::memcpy(&eight, from + (i / 8 + lane) * bits, sizeof eight);
        eights[lane] = eight;
      }
      store_unaligned(codes + i, eight_unpacked(eights, bits));
    }
  }
  unpack_rest(from + i / 8 * bits, count - i, bits, codes + i);
}

}  // namespace strop::simd::STROP_ISA
