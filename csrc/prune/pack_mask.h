#pragma once

#include <cstdint>

#include "core/execution.h"
#include "core/portability.h"

namespace strop::prune {

// pack_mask and unpack_mask: rows of `count` bytes, not 0 where true, and of as many bits, low bits
// first; what is left of a row's last byte is 0.
struct MaskRows {
  const void* from;
  void* to;
  std::int64_t rows;
  std::int64_t count;

  constexpr std::int64_t bytes() const { return (count + 7) / 8; }  // of a packed row
};
struct PackMaskArgs : MaskRows {};
struct UnpackMaskArgs : MaskRows {};

void run(const PackMaskArgs& rows, Oracle);
void run(const PackMaskArgs& rows, const ExecutionOptions& options);
void run(const PackMaskArgs& rows, const Launch& on);

void run(const UnpackMaskArgs& rows, Oracle);
void run(const UnpackMaskArgs& rows, const ExecutionOptions& options);
void run(const UnpackMaskArgs& rows, const Launch& on);

inline constexpr std::uint64_t kEachByte = 0x0101010101010101u;

// Bit j of the byte says whether byte j is not 0: each becomes 1 or 0, and the product moves all
// of them to the top byte, none onto another.
STROP_INLINE std::uint8_t packed_byte(std::uint64_t bytes) {
  const std::uint64_t low = bytes & 0x7f * kEachByte;
  const std::uint64_t ones = ((low + 0x7f * kEachByte) | bytes) >> 7 & kEachByte;
  return static_cast<std::uint8_t>(ones * 0x0102040810204080u >> 56);
}

// Byte j is bit j: of eight copies each byte keeps its own bit, and is carried to its top.
STROP_INLINE std::uint64_t unpacked_byte(std::uint8_t bits) {
  const std::uint64_t own = bits * kEachByte & 0x8040201008040201u;
  return (own + 0x7f * kEachByte) >> 7 & kEachByte;
}

}  // namespace strop::prune
