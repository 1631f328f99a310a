#pragma once

// Codes of exact products to float32, a column of a panel at a time. Compiled once per instruction
// set.
//
// A decoder reads kColumns columns from kBytes of a panel in a step, each to kRowVectors vectors:
// which ones column() says. What these lack of the values is factor(), and kZero says whether the
// zero points.

#include "core/simd/unroll.h"
#include "linear/simd/panel_rows.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Columns in order.
template <int kCount>
struct InOrder {
  static constexpr int kColumns = kCount;
  static constexpr int column(int step, int number) { return step * kCount + number; }
};

template <bool kHasZero>
struct ByteDecoder : InOrder<1> {
  static constexpr int kBytes = kPanelRows;
  static constexpr bool kZero = kHasZero;
  explicit ByteDecoder(const CodesHeader&) {}
  STROP_MEMBER float factor() const { return 1; }

  template <int kStep = 0>
  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    from += kStep * kBytes;
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      to[0][i] = __builtin_convertvector(signed_bytes(from + i * kLanes), F32);
    });
  }

 private:
  static STROP_MEMBER I32 signed_bytes(const std::uint8_t* from) {
#if defined(__AVX512F__)
    return bit_cast<I32>(_mm512_cvtepi8_epi32(load_unaligned<__m128i>(from)));
#elif defined(__AVX2__)
    return bit_cast<I32>(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    return (from_bytes(from) ^ broadcast(128)) - broadcast(128);
#endif
  }
};

struct NibbleDecoder : InOrder<2> {
  static constexpr int kBytes = kPanelRows;
  static constexpr bool kZero = true;
  explicit NibbleDecoder(const CodesHeader&) {}
  STROP_MEMBER float factor() const { return 1; }

  template <int kStep = 0>
  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    from += kStep * kBytes;
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      const I32 both = from_bytes(from + i * kLanes);
      to[0][i] = __builtin_convertvector(both & broadcast(15), F32);
      to[1][i] = __builtin_convertvector(both >> 4, F32);
    });
  }
};

// Values of bfloat16, by twos.
struct ValueDecoder : InOrder<2> {
  static constexpr int kBytes = 4 * kPanelRows;
  static constexpr bool kZero = false;
  explicit ValueDecoder(const CodesHeader&) {}
  STROP_MEMBER float factor() const { return 1; }

  template <int kStep = 0>
  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    from += kStep * kBytes;
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      const auto both = load_unaligned<U32>(from + i * kVectorBytes);
      to[0][i] = bit_cast<F32>(both << 16);
      to[1][i] = bit_cast<F32>(both & broadcast(0xffff0000u));
    });
  }
};

inline constexpr bool kOneTable = kLanes == 16;

// What each nibble stands for, less a zero point that all have in common.
STROP_INLINE void fill_table(const CodesHeader& header, float (&values)[16]) {
  const auto zero = static_cast<int>(header.zeros == 0 ? header.same_zero : 0);
  for (int code = 0; code < 16; ++code) {
    values[code] =
        header.code_kind == CodeKind::kTable ? header.table[code] : static_cast<float>(code - zero);
  }
}

// By a table of 16. One register has it in AVX-512, where 16 nibbles take one permutation, less
// than their conversion. (AVX2 has planes.h.)
template <bool kHasZero>
class TableDecoder : public InOrder<2> {
 public:
  static constexpr int kBytes = kPanelRows;
  static constexpr bool kZero = kHasZero;
  explicit TableDecoder(const CodesHeader& header) {
    float values[16];
    fill_table(header, values);
    for (int i = 0; i < kTables; ++i) table_[i] = load_unaligned<F32>(values + i * kLanes);
  }
  STROP_MEMBER float factor() const { return 1; }

  template <int kStep = 0>
  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    from += kStep * kBytes;
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      const I32 both = from_bytes(from + i * kLanes);
      to[0][i] = entry(kOneTable ? both : both & broadcast(15));
      to[1][i] = entry(both >> 4);
    });
  }

 private:
  static constexpr int kTables = 16 / kLanes;

  STROP_MEMBER F32 entry(I32 code) const {
#if defined(__AVX512F__)
    return permuted(table_[0], code);  // (by the low four bits)
#else
    F32 found;
    for (int lane = 0; lane < kLanes; ++lane) {
      found[lane] = table_[code[lane] / kLanes][code[lane] % kLanes];
    }
    return found;
#endif
  }

  F32 table_[kTables];
};

// Floats of few bits, as bits of a float16.
class FloatDecoder : public InOrder<kRowVectors == 1 ? 2 : 1> {
 public:
  static constexpr int kBytes = kColumns * kPanelRows;
  static constexpr bool kZero = false;
  explicit FloatDecoder(const CodesHeader& header)
      : factor_(header.float_code.factor),
        shift_(header.float_code.shift),
        kept_(static_cast<std::int16_t>(header.float_code.sizes << shift_ | -32768)) {}
  STROP_MEMBER float factor() const { return factor_; }

  template <int kStep = 0>
  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    from += kStep * kBytes;
    unrolled<kBytes / (2 * kLanes)>([&](auto i) STROP_UNROLLED {
      const I16 codes = words_of_bytes(from + i * 2 * kLanes);  // (bits above 7 are the sign's)
      const I16 half = (codes << shift_) & broadcast(kept_);
      struct Halves {
        U16 low;
        U16 high;
      };
      const auto halves = bit_cast<Halves>(half);
      to[0][2 * i % kRowVectors] = from_float16(halves.low);
      to[kColumns - 1][(2 * i + 1) % kRowVectors] = from_float16(halves.high);
    });
  }

 private:
  float factor_;
  int shift_;
  std::int16_t kept_;
};

}  // namespace strop::linear::simd::STROP_ISA
