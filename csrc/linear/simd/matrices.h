#pragma once

// Products of two rows of x with two of the weight over eight columns by one instruction: AArch64's
// matrices of integers. Compiled once per instruction set that has them.
//
// An instruction has 32 products, where a dot product has 16. For eight columns of a panel there
// are eight zips and up to eight loads, and for each two rows of x two loads and eight products.

#include "linear/simd/fours.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// The sums of both rows of a, one after another, with both rows of b.
STROP_INLINE I32 add_matrices(I32 sum, I32 a, I32 b) {
  return bit_cast<I32>(
      vmmlaq_s32(bit_cast<int32x4_t>(sum), bit_cast<int8x16_t>(a), bit_cast<int8x16_t>(b)));
}

STROP_INLINE I32 two_rows(const std::uint8_t* first, const std::uint8_t* second) {
  return bit_cast<I32>(vcombine_u8(vld1_u8(first), vld1_u8(second)));
}

// Several rows of x by matrices, one by dot products. Source is Fours or FourNibbles.
template <class Source>
struct Matrices : Source {
  using typename Source::Code;
  using typename Source::X;
  static constexpr int kMaxRows = 4;  // (the sums of six would not fit the registers)
  static constexpr bool kBytes = Source::kColumnBytes == kPanelRows;

  // Eight columns of rows 4 i to 4 i + 3 of the weight, in pairs.
  static STROP_MEMBER void read(const Code* w, int i, I32 (&pairs)[2]) {
    const I32 low = broadcast(0x0f0f0f0f), first = load_unaligned<I32>(w + i * kVectorBytes);
    const I32 a = kBytes ? first : first & low;
    const I32 b =
        kBytes ? load_unaligned<I32>(w + kQuadBytes + i * kVectorBytes) : (first >> 4) & low;
    pairs[0] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    pairs[1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  }

  template <int kRows>
  static STROP_MEMBER void sums(const X* x, std::int64_t apart, std::int64_t begin,
                                std::int64_t end, const Code*& w,
                                I32 (&total)[kRows][kRowVectors]) {
    if constexpr (kRows == 1) return Source::template sums<1>(x, apart, begin, end, w, total);
    constexpr int kPairs = (kRows + 1) / 2;  // (the last one may have a row twice)
    I32 sum[kPairs][kRowVectors][2] = {};
    for (std::int64_t k = begin; k < end; k += 8, w += 8 * Source::kColumnBytes) {
      prefetch(w + kAhead);
      I32 rows[kPairs];
      unrolled<kPairs>([&](auto p) STROP_UNROLLED {
        const X* const first = x + 2 * p * apart + k;
        rows[p] = two_rows(first, 2 * p + 1 < kRows ? first + apart : first);
      });
      unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
        I32 pairs[2];
        read(w, i, pairs);
        unrolled<kPairs>([&](auto p) STROP_UNROLLED {
          sum[p][i][0] = add_matrices(sum[p][i][0], rows[p], pairs[0]);
          sum[p][i][1] = add_matrices(sum[p][i][1], rows[p], pairs[1]);
        });
      });
    }
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
        const I32 low = sum[r / 2][i][0], high = sum[r / 2][i][1];
        total[r][i] = r % 2 == 0 ? __builtin_shufflevector(low, high, 0, 1, 4, 5)
                                 : __builtin_shufflevector(low, high, 2, 3, 6, 7);
      });
    });
  }
};

}  // namespace strop::linear::simd::STROP_ISA
