#pragma once

// Words of a mask, their values, and rows of x: what a weight's row adds to its sums. Compiled once
// per instruction set. See Note [Rows of bits on a CPU].

#include "core/simd/unroll.h"
#include "linear/bits.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr std::int64_t kWord = 64;  // columns of a word of the mask

// Sums of a row of x that do not wait for each other.
template <int kRows>
inline constexpr int kChains = kRows == 1   ? 4
                               : kRows <= 4 ? 2
                                            : 1;

// A stretch of a weight's row: its bits, and how far ahead what comes next lies.
struct RowBits {
  const std::uint8_t* from;
  std::int64_t bytes;  // up to the row's end
  std::int64_t words;
  std::int64_t bits_ahead;
  std::int64_t values_ahead;  // likewise in bytes

  STROP_MEMBER std::uint64_t word(std::int64_t i) const {
    return 8 * i + 8 <= bytes ? load_unaligned<std::uint64_t>(from + 8 * i)
                              : bits_at(from, 8 * i, bytes);
  }
};

#if defined(__AVX2__)
// For a byte of the mask and each of its columns: the place of its value among those of the byte,
// with the sign bit where there is one, so that the same vector moves the values and chooses of x
// (by a blend: a masked load takes a Zen 1 ten cycles). And where the bytes of 16-bit values go: to
// the upper half of their column's float, or to their column; to others 0. (AVX-512's VEXPANDPS and
// masks take a Zen 5 six cycles for 16 columns, this takes it three.)
struct SpreadTable {
  alignas(64) std::int32_t place[256][8];
  alignas(64) std::int8_t upper[256][32];
  alignas(64) std::int8_t word[256][16];
  constexpr SpreadTable() : place(), upper(), word() {
    for (int byte = 0; byte < 256; ++byte) {
      int before = 0;
      for (int bit = 0; bit < 8; ++bit) {
        const bool kept = (byte >> bit & 1) != 0;
        for (int i = 0; i < 2; ++i) {
          const auto from = static_cast<std::int8_t>(kept ? 2 * before + i : -128);
          upper[byte][4 * bit + i] = -128;
          upper[byte][4 * bit + 2 + i] = from;
          word[byte][2 * bit + i] = from;
        }
        place[byte][bit] = kept ? static_cast<std::int32_t>(0x80000000u + before++) : 0;
      }
    }
  }
};
inline constexpr SpreadTable kSpread;

STROP_INLINE __m256i place_of(unsigned byte) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.place[byte]));
}
STROP_INLINE __m256 zero_but(__m256i place, __m256 v) {
  return _mm256_blendv_ps(_mm256_setzero_ps(), v, _mm256_castsi256_ps(place));
}

// The values of a byte's columns, at their places, and 0 where there is none.
STROP_INLINE __m256 spread_byte(unsigned byte, const float* values) {
  const __m256i place = place_of(byte);
  return zero_but(place, _mm256_permutevar8x32_ps(_mm256_loadu_ps(values), place));
}
STROP_INLINE __m256 spread_byte(unsigned byte, const BFloat16* values) {
  const __m256i from = _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.upper[byte]));
  const __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  return _mm256_castsi256_ps(_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(next), from));
}
STROP_INLINE __m256 spread_byte(unsigned byte, const Float16* values) {
  const __m128i from = _mm_load_si128(reinterpret_cast<const __m128i*>(kSpread.word[byte]));
  const __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  return _mm256_cvtph_ps(_mm_shuffle_epi8(next, from));
}

// Adds the products of a word's columns. kBoth: x is 0 as well where there is no weight, for it
// may be no number there. Their product is 0 either way: the sum is the same to the bit.
template <bool kBoth, int kRows, class V>
STROP_INLINE void add_bytes(std::uint64_t word, const V* values, const float* x,
                            __m256 (&sum)[kRows][kChains<kRows>]) {
  unrolled<8>([&](auto i) STROP_UNROLLED {
    // (counted from the word's first value: one byte does not wait for another)
    const std::uint64_t before = word & ((std::uint64_t{1} << 8 * i) - 1);
    const auto byte = static_cast<unsigned>(word >> 8 * i & 0xff);
    const __m256 spread = spread_byte(byte, values + count_bits(before));
    unrolled<kRows>([&](auto m) STROP_UNROLLED {
      __m256 columns = _mm256_loadu_ps(x + kWord * m + 8 * i);
      if constexpr (kBoth) columns = zero_but(place_of(byte), columns);
      __m256& to = sum[m][i % kChains<kRows>];
      to = _mm256_fmadd_ps(spread, columns, to);
    });
  });
}

#if defined(__AVX512F__)
inline constexpr int kMaskRows = 8;

// Expanding moves and masks: 16 columns keep one port of an Intel three cycles, where memory takes
// longer, and a Zen 5 six. A plan may have AVX2's kernel there. Lanes without a weight stay as they
// are, whatever x holds.
template <int kRows>
STROP_INLINE void add_word(std::uint64_t word, const float* values, const float* x,
                           __m512 (&sum)[kRows][kChains<kRows>]) {
  unrolled<4>([&](auto i) STROP_UNROLLED {
    auto kept = static_cast<__mmask16>(word >> 16 * i);
    __m512 next = _mm512_loadu_ps(values);
    values += __builtin_popcount(kept);
    keep_in_mask(kept);      // moved once: that takes the port that expands
    keep_in_register(next);  // (of memory, expanding takes an Intel twice as long)
    const __m512 spread = _mm512_maskz_expand_ps(kept, next);
    unrolled<kRows>([&](auto m) STROP_UNROLLED {
      __m512& to = sum[m][i % kChains<kRows>];
      to = _mm512_mask3_fmadd_ps(spread, _mm512_loadu_ps(x + kWord * m + 16 * i), to, kept);
    });
  });
}

#if defined(__AVX512VBMI2__)
STROP_INLINE __m512 widened(__m256i values, BFloat16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}
STROP_INLINE __m512 widened(__m256i values, Float16) { return _mm512_cvtph_ps(values); }

template <int kRows, class V>
STROP_INLINE void add_word(std::uint64_t word, const V* values, const float* x,
                           __m512 (&sum)[kRows][kChains<kRows>]) {
  unrolled<2>([&](auto i) STROP_UNROLLED {
    const std::uint64_t before = word & ((std::uint64_t{1} << 32 * i) - 1);
    const auto kept = static_cast<__mmask32>(word >> 32 * i);
    __m512i next = _mm512_loadu_si512(values + count_bits(before));
    keep_in_register(next);
    const __m512i spread = _mm512_maskz_expand_epi16(kept, next);
    const __m512 halves[] = {widened(_mm512_castsi512_si256(spread), V{}),
                             widened(_mm512_extracti64x4_epi64(spread, 1), V{})};
    unrolled<2>([&](auto half) STROP_UNROLLED {
      const auto own = static_cast<__mmask16>(kept >> 16 * half);
      unrolled<kRows>([&](auto m) STROP_UNROLLED {
        const float* const from = x + kWord * m + 32 * i + 16 * half;
        __m512& to = sum[m][(2 * i + half) % kChains<kRows>];
        to = _mm512_mask3_fmadd_ps(halves[half], _mm512_loadu_ps(from), to, own);
      });
    });
  });
}
template <class V>
inline constexpr bool kExpands = true;
#else
template <class V>
inline constexpr bool kExpands = sizeof(V) == 4;
#endif
#else
inline constexpr int kMaskRows = 4;
template <class V>
inline constexpr bool kExpands = false;
#endif

template <int kCount, class F>
STROP_INLINE F added(const F (&sum)[kCount]) {
  if constexpr (kCount == 4) return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  if constexpr (kCount == 2) return sum[0] + sum[1];
  return sum[0];
}

STROP_INLINE F32 whole_vector(__m256 v) {
#if defined(__AVX512F__)
  return _mm512_zextps256_ps512(v);
#else
  return v;
#endif
}

// Adds a stretch's products to the sums, one a row of x, whose lanes are still apart. Returns where
// the values after it begin.
template <bool kBoth, int kRows, class V>
STROP_INLINE const V* add_products(const RowBits& bits, const V* values, const float* x,
                                   F32 (&sums)[kRows]) {
  constexpr auto zero = [] {
    if constexpr (kExpands<V>)
      return F32{};
    else
      return __m256{};
  };
  decltype(zero()) sum[kRows][kChains<kRows>] = {};
  for (std::int64_t i = 0; i < bits.words; ++i, x += kWord * kRows) {
    const std::uint64_t word = bits.word(i);
    const auto* const ahead = reinterpret_cast<const std::uint8_t*>(values) + bits.values_ahead;
    prefetch(ahead);
    if constexpr (kExpands<V>) {
      prefetch(ahead + 64);
      prefetch(bits.from + 8 * i + bits.bits_ahead);
      add_word<kRows>(word, values, x, sum);
    } else {
      add_bytes<kBoth, kRows>(word, values, x, sum);
    }
    values += count_bits(word);
  }
  for (int m = 0; m < kRows; ++m) {
    if constexpr (kExpands<V>) {
      sums[m] = sums[m] + added(sum[m]);
    } else {
      sums[m] = sums[m] + whole_vector(added(sum[m]));
    }
  }
  return values;
}
#else
inline constexpr int kMaskRows = 1;

// The nonzeros of a row one by one.
template <bool, int kRows, class V>
STROP_INLINE const V* add_products(const RowBits& bits, const V* values, const float* x,
                                   F32 (&sums)[kRows]) {
  float sum = 0;
  for (std::int64_t i = 0; i < bits.words; ++i) {
    for_each_bit(bits.word(i), [&](int bit) { sum += to_float(*values++) * x[kWord * i + bit]; });
  }
  sums[0] = sums[0] + F32{sum};
  return values;
}
#endif

}  // namespace strop::linear::simd::STROP_ISA
