// The bits of a weight's nonzeros, compiled once per instruction set (STROP_ISA).

#include "core/simd/vector.h"
#include "linear/kernels.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

void nonzero_bits(const float* row, std::int64_t count, std::uint8_t* bits);

// 32 at a time; a word of the lanes that are other than 0.
void nonzero_bits(const float* row, std::int64_t count, std::uint8_t* bits) {
  constexpr std::int64_t kWord = 32;
  constexpr std::uint32_t kEvery = (1u << kLanes) - 1;
  const Vec zero(0.0f);
  for (std::int64_t at = 0; at < count; at += kWord) {
    const std::int64_t left = count - at < kWord ? count - at : kWord;
    std::uint32_t word = 0;
    for (std::int64_t i = 0; i < left; i += kLanes) {
      const bool whole = left - i >= kLanes;
      const Vec v = whole ? load(row + at + i) : load_first(row + at + i, left - i);
      word |= (~lane_bits(eq(v, zero)) & kEvery) << i;
    }
    std::memcpy(bits + at / 8, &word, static_cast<std::size_t>((left + 7) / 8));
  }
}

}  // namespace strop::linear::simd::STROP_ISA
