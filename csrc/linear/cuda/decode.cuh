#pragma once

// Numbers of codes, eight at a time: Note [Codes on a GPU].

#include "core/cuda/vector.cuh"
#include "formats/number_grid.h"
#include "linear/codes.h"

namespace strop::linear::cuda {
using namespace strop::cuda;

inline constexpr int kUnit = 8;  // codes that are decoded together

// What numbers become of codes.
struct Decoding {
  CodeKind kind;
  float origin;            // kInteger: of a code in the last bits of 2^23
  std::uint32_t flip;      // the sign bits of four integers' codes
  int shift;               // kFloat: from a code's exponent to that of a float32,
  std::uint32_t kept;      // its bits there,
  float factor;            // and the power of two that makes up for the other bias
  std::uint32_t specials;  // makes the first bits of codes of Inf and NaN 1; 0: there are none
  int infinity;            // the code of Inf; 0: none
  float table[16];         // kTable

  explicit Decoding(const NumberFormat& format);
};

// Four codes to a byte each: first to halves of the word by twos.
__device__ __forceinline__ std::uint32_t four_spread(std::uint32_t codes, int bits) {
  const std::uint32_t one = (1u << bits) - 1, two = one << bits | one;
  const std::uint32_t halves = (codes & two) | (codes >> 2 * bits & two) << 16;
  return (halves & one * 0x10001u) | (halves >> bits & one * 0x10001u) << 8;
}

// Eight codes, a byte each.
struct CodeBytes {
  std::uint32_t word[2];

  static __device__ __forceinline__ CodeBytes of(std::uint64_t codes, int bits) {
    const auto low = static_cast<std::uint32_t>(codes);
    if (bits == 8) return {{low, static_cast<std::uint32_t>(codes >> 32)}};
    if (bits == 4) {
      const std::uint32_t even = low & 0x0f0f0f0fu, odd = low >> 4 & 0x0f0f0f0fu;
      return {{__byte_perm(even, odd, 0x5140), __byte_perm(even, odd, 0x7362)}};
    }
    return {
        {four_spread(low, bits), four_spread(static_cast<std::uint32_t>(codes >> 4 * bits), bits)}};
  }
};

__device__ __forceinline__ void integers(const Decoding& decoding, const CodeBytes& codes,
                                         float (&values)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {
    const std::uint32_t word = codes.word[i / 4] ^ decoding.flip;
    values[i] = bits_float(__byte_perm(word, 0x4b000000u, 0x7540u | i % 4)) - decoding.origin;
  }
}

__device__ __forceinline__ void from_table(const float* table, const CodeBytes& codes,
                                           float (&values)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i) values[i] = table[codes.word[i / 4] >> (8 * (i % 4)) & 15];
}

__device__ __forceinline__ void floats(const Decoding& decoding, const CodeBytes& codes, int bits,
                                       float (&values)[kUnit]) {
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {
    const std::uint32_t high =
        __byte_perm(codes.word[i / 4] << (8 - bits), 0, 0x0444u | i % 4 << 12);
    const auto moved = static_cast<std::uint32_t>(static_cast<int>(high) >> decoding.shift);
    values[i] = bits_float(moved & decoding.kept) * decoding.factor;
  }
  if (decoding.specials == 0) return;
  std::uint32_t special[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    special[half] = ((codes.word[half] & 0x7f7f7f7fu) + decoding.specials) & 0x80808080u;
  }
  if ((special[0] | special[1]) == 0) return;
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {
    if ((special[i / 4] >> (8 * (i % 4)) & 0x80u) == 0) continue;
    const int size = static_cast<int>(codes.word[i / 4] >> (8 * (i % 4)) & 0x7fu);
    const bool infinite = decoding.infinity != 0 && size == decoding.infinity;
    values[i] = set_sign(bits_float(infinite ? 0x7f800000u : 0x7fc00000u), values[i]);
  }
}

// Of codes of any kind.
__device__ __forceinline__ void numbers(const Decoding& decoding, const float* table,
                                        const CodeBytes& codes, int bits, float (&values)[kUnit]) {
  if (decoding.kind == CodeKind::kInteger) return integers(decoding, codes, values);
  if (decoding.kind == CodeKind::kTable) return from_table(table, codes, values);
  floats(decoding, codes, bits, values);
}

}  // namespace strop::linear::cuda
