#pragma once

// Sums of products of integers: codes of x times those of a panel, in 32 bits. Compiled once per
// instruction set.
//
// A source says how codes of the weight are read and multiplied: `Code` is what they are stored as,
// `X` a code of x. sums() adds up the columns [begin, end) of a panel for kRows rows of x, which
// are `apart` codes from each other; `w` has the codes from `begin` on, and moves on to `end`.

#include <type_traits>

#include "core/simd/unroll.h"
#include "linear/simd/panel_rows.h"

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__) || defined(STROP_NEON_DOT)
#define STROP_FOURS
#include "linear/simd/fours.h"
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
#define STROP_MATRICES
#include "linear/simd/matrices.h"
#endif

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

#if defined(STROP_NEON_DOT)
inline constexpr bool kFoursOfSigned = true;
#else
inline constexpr bool kFoursOfSigned = false;
#endif

template <int kRows>
using Totals = I32[kRows][kRowVectors];

template <int kFirst, int... kEach>
STROP_INLINE I32 every_other(I32 a, I32 b, std::integer_sequence<int, kEach...>) {
  return __builtin_shufflevector(a, b, (2 * kEach + kFirst)...);
}

// Codes widened to 16 bits, of which an instruction multiplies and adds pairs: a row of the weight
// has two lanes. (Bytes cannot be multiplied as they are: two products of an unsigned and a signed
// one exceed 16 bits.) They are decoded before, or one by one from bytes.
template <class CodeType>
struct Widened {
  using Code = CodeType;
  using X = std::int16_t;
  static constexpr bool kDecoded = sizeof(Code) == 2, kAlwaysInPlace = false;
  static constexpr int kVectors = 2 * kPanelRows / kLanes;
  static constexpr int kHalf = kVectorBytes / 2;
  static constexpr int kColumnBytes = kPanelRows * static_cast<int>(sizeof(Code));
  // Sums of so many rows fit the registers.
  static constexpr int kMaxRows = kLanes == 4 ? 1 : kLanes == 16 ? 4 : 2;

  static STROP_MEMBER I32 spread(const X* x) {
    return bit_cast<I32>(broadcast(load_unaligned<std::uint64_t>(x)));
  }
  static STROP_MEMBER I16 load(const std::int8_t* codes) { return words_of_bytes(codes); }
  static STROP_MEMBER I16 load(const std::int16_t* codes) { return load_unaligned<I16>(codes); }

  template <int kRows>
  static STROP_MEMBER void sums(const X* x, std::int64_t apart, std::int64_t begin,
                                std::int64_t end, const Code*& w, Totals<kRows>& total) {
    I32 sum[kRows][kVectors] = {};
    for (std::int64_t k = begin; k < end; k += 4, w += kQuadBytes) {
      I32 four[kRows];
      unrolled<kRows>([&](auto r) STROP_UNROLLED { four[r] = spread(x + r * apart + k); });
      if constexpr (!kDecoded) prefetch(w + kAhead);
      unrolled<kVectors>([&](auto v) STROP_UNROLLED {
        const I32 codes = bit_cast<I32>(load(w + v * kHalf));
        unrolled<kRows>([&](auto r)
                            STROP_UNROLLED { sum[r][v] += products_of_words(codes, four[r]); });
      });
    }
    constexpr std::make_integer_sequence<int, kLanes> lanes;
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
        total[r][i] = every_other<0>(sum[r][2 * i], sum[r][2 * i + 1], lanes) +
                      every_other<1>(sum[r][2 * i], sum[r][2 * i + 1], lanes);
      });
    });
  }
};

// To words, as Widened reads them.
STROP_INLINE void decode_bytes(const std::uint8_t* from, std::int64_t columns, std::int16_t* to) {
  const auto* const codes = reinterpret_cast<const std::int8_t*>(from);
  for (std::int64_t i = 0; i < columns * kPanelRows; i += 2 * kLanes) {
    store_unaligned(to + i, Widened<std::int8_t>::load(codes + i));
  }
}
STROP_INLINE void decode_nibbles(const std::uint8_t* from, std::int64_t columns, std::int16_t* to) {
  for (std::int64_t k = 0; k < columns; k += 8, from += kQuadBytes, to += 2 * kQuadBytes) {
    for (int i = 0; i < kQuadBytes; i += 2 * kLanes) {
      const I16 both = words_from_bytes(from + i);
      store_unaligned(to + i, both & broadcast(std::int16_t{15}));
      store_unaligned(to + kQuadBytes + i, both >> 4);
    }
  }
}

#if defined(__AVX2__)
// Nibbles as they are: eight products of an unsigned nibble and a signed byte, two by two, fit 16
// bits.
struct Nibbles {
  using Code = std::uint8_t;
  using X = std::int8_t;
  static constexpr int kMaxRows = kLanes == 16 ? 4 : 2;
  static constexpr bool kAlwaysInPlace = true;
  static constexpr int kColumnBytes = kPanelRows / 2;
  static constexpr int kSums = 8;  // of two products each, that fit

  template <int kRows>
  static STROP_MEMBER void sums(const X* x, std::int64_t apart, std::int64_t begin,
                                std::int64_t end, const Code*& w, Totals<kRows>& total) {
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      unrolled<kRowVectors>([&](auto i) STROP_UNROLLED { total[r][i] = I32{}; });
    });
    const I16 low = broadcast(std::int16_t{0x0f0f});
    for (std::int64_t k = begin; k < end;) {
      const std::int64_t stop = k + 4 * kSums < end ? k + 4 * kSums : end;
      I16 sum[kRows][kRowVectors] = {};
      for (; k < stop; k += 8, w += kQuadBytes) {
        prefetch(w + kAhead);
        unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
          const I16 both = load_unaligned<I16>(w + i * kVectorBytes);
          const I16 first = both & low;
          const I16 second = bit_cast<I16>(bit_cast<U32>(both) >> 4) & low;
          unrolled<kRows>([&](auto r) STROP_UNROLLED {
            const X* const at = x + r * apart + k;
            const I16 a = bit_cast<I16>(broadcast(load_unaligned<std::uint32_t>(at)));
            const I16 b = bit_cast<I16>(broadcast(load_unaligned<std::uint32_t>(at + 4)));
            sum[r][i] += products_of_bytes(first, a) + products_of_bytes(second, b);
          });
        });
      }
      const I32 ones = bit_cast<I32>(broadcast(std::int16_t{1}));
      unrolled<kRows>([&](auto r) STROP_UNROLLED {
        unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
          total[r][i] += products_of_words(bit_cast<I32>(sum[r][i]), ones);
        });
      });
    }
  }

 private:
  // Sums of two: unsigned times signed.
  static STROP_MEMBER I16 products_of_bytes(I16 a, I16 b) {
#if defined(__AVX512BW__)
    return bit_cast<I16>(_mm512_maddubs_epi16(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
#else
    return bit_cast<I16>(_mm256_maddubs_epi16(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
#endif
  }
};
#endif

// How bytes and nibbles are read where they lie (void: they never are), and what else they become.
#if defined(STROP_MATRICES)
using BytesInPlace = Matrices<Fours<kFoursOfSigned>>;
using NibblesInPlace = Matrices<FourNibbles>;
using Decoded = Matrices<Fours<true>>;
#elif defined(STROP_FOURS)
using BytesInPlace = Fours<kFoursOfSigned>;
using NibblesInPlace = FourNibbles;
using Decoded = Fours<true>;
#elif defined(__AVX2__)
using BytesInPlace = Widened<std::int8_t>;
using NibblesInPlace = Nibbles;
using Decoded = Widened<std::int16_t>;
#else
using BytesInPlace = Widened<std::int8_t>;
using NibblesInPlace = void;
using Decoded = Widened<std::int16_t>;
#endif
inline constexpr bool kDecodesBytes = sizeof(Decoded::Code) == 2;

// So many columns of a panel.
template <class Code>
STROP_INLINE void decode(CodeStore store, const std::uint8_t* codes, std::int64_t count, Code* to) {
  if constexpr (kDecodesBytes) {
    if (store == CodeStore::kBytes) return decode_bytes(codes, count, to);
  }
  decode_nibbles(codes, count, to);
}

// Whether codes are multiplied as they lie: where so few rows of x are that they are read once, or
// where products of 16 bits would take longer than decoding them again for each tile.
template <class Source>
constexpr bool in_place(std::int64_t rows) {
  if constexpr (std::is_void_v<Source>) {
    return false;
  } else {
    return Source::kAlwaysInPlace || rows <= 2 * Source::kMaxRows;
  }
}

// What a stored code of x is less than its uint8 code.
STROP_INLINE int x_offset(const CodesHeader& header) {
  const bool is_signed = header.store == CodeStore::kNibbles || kDecodesBytes || kFoursOfSigned;
  return is_signed ? 128 : 0;
}
STROP_INLINE bool x_is_bytes(const CodesTask& task) {
  return !kDecodesBytes || (task.args.header().store == CodeStore::kNibbles &&
                            in_place<NibblesInPlace>(task.args.rows));
}

}  // namespace strop::linear::simd::STROP_ISA
