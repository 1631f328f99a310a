#pragma once

// Codes of exact products to float32, a column of a panel at a time. Compiled once per instruction
// set.
//
// A decoder reads `kColumns` columns from one place of the panel's bytes, each to kRowVectors
// vectors, less what header.offset took from integers and times factor().

#include "core/simd/unroll.h"
#include "linear/simd/panel_rows.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// One element in every lane. (As an integer: a sum with 0 would be computed, for -0.)
STROP_INLINE F32 spread(const float* from) {
  return bit_cast<F32>(broadcast(load_unaligned<std::uint32_t>(from)));
}

struct ByteDecoder {
  static constexpr int kColumns = 1;
  explicit ByteDecoder(const CodesHeader&) {}
  STROP_MEMBER float factor() const { return 1; }

  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
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

struct NibbleDecoder {
  static constexpr int kColumns = 2;
  explicit NibbleDecoder(const CodesHeader&) {}
  STROP_MEMBER float factor() const { return 1; }

  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      const I32 both = from_bytes(from + i * kLanes);
      to[0][i] = __builtin_convertvector(both & broadcast(15), F32);
      to[1][i] = __builtin_convertvector(both >> 4, F32);
    });
  }
};

// By a table of 16.
class TableDecoder {
 public:
  static constexpr int kColumns = 2;
  explicit TableDecoder(const CodesHeader& header) {
    for (int i = 0; i < kTables; ++i) table_[i] = load_unaligned<F32>(header.table + i * kLanes);
  }
  STROP_MEMBER float factor() const { return 1; }

  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      const I32 both = from_bytes(from + i * kLanes);
      to[0][i] = entry(both & broadcast(15));
      to[1][i] = entry(both >> 4);
    });
  }

 private:
  static constexpr int kTables = 16 / kLanes;

  STROP_MEMBER F32 entry(I32 code) const {
#if defined(__AVX512F__)
    return permuted(table_[0], code);
#elif defined(__AVX2__)
    return bit_cast<F32>(_mm256_blendv_ps(permuted(table_[0], code), permuted(table_[1], code),
                                          bit_cast<__m256>(code << 28)));
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
class FloatDecoder {
 public:
  static constexpr int kColumns = 1;
  explicit FloatDecoder(const CodesHeader& header)
      : factor_(header.float_code.factor),
        shift_(header.float_code.shift),
        kept_(static_cast<std::int16_t>(header.float_code.sizes << shift_ | -32768)) {}
  STROP_MEMBER float factor() const { return factor_; }

  STROP_MEMBER void decode(const std::uint8_t* from, F32 (&to)[kColumns][kRowVectors]) const {
    constexpr int kPairs = kRowVectors == 1 ? 1 : kRowVectors / 2;
    unrolled<kPairs>([&](auto i) STROP_UNROLLED {
      const I16 codes = words_of_bytes(from + i * 2 * kLanes);  // (bits above 7 are the sign's)
      const I16 half = (codes << shift_) & broadcast(kept_);
      struct Halves {
        U16 low;
        U16 high;
      };
      const auto halves = bit_cast<Halves>(half);
      to[0][2 * i % kRowVectors] = from_float16(halves.low);
      if constexpr (kRowVectors > 1) to[0][2 * i + 1] = from_float16(halves.high);
    });
  }

 private:
  float factor_;
  int shift_;
  std::int16_t kept_;
};

}  // namespace strop::linear::simd::STROP_ISA
