// One row of x by a mask and the values behind it, compiled once per instruction set (STROP_ISA).

#include "core/simd/unroll.h"
#include "linear/simd/one_row.h"

namespace strop::linear::simd::STROP_ISA {

void multiply_mask(const MaskedLinearArgs& args, float* words, std::int64_t begin,
                   std::int64_t end);

namespace {

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
constexpr SpreadTable kSpread;

// Whether something that is no number may stand in a lane without a weight: 32 bits hold another
// weight there and 0 of x, 16 bits hold 0 and what x is.
template <class V>
STROP_INLINE bool may_be_no_number(const LayoutHeader& header, bool x_is_finite) {
  return sizeof(V) == 4 ? header.finite == 0 : !x_is_finite;
}

STROP_INLINE __m256i place_of(unsigned byte) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.place[byte]));
}
STROP_INLINE __m256 zero_but(__m256i place, __m256 v) {
  return _mm256_blendv_ps(_mm256_setzero_ps(), v, _mm256_castsi256_ps(place));
}

// sum + the products of the columns of a byte, whose values begin at `values`. kBoth: lanes without
// a weight hold 0 twice. Their product is 0 either way, so that the sum is the same to the bit.
template <bool kBoth>
STROP_INLINE __m256 add_byte(unsigned byte, const float* values, const float* x, __m256 sum) {
  const __m256i place = place_of(byte);
  __m256 spread = _mm256_permutevar8x32_ps(_mm256_loadu_ps(values), place);
  if constexpr (kBoth) spread = zero_but(place, spread);
  return _mm256_fmadd_ps(spread, zero_but(place, _mm256_loadu_ps(x)), sum);
}
template <bool kBoth>
STROP_INLINE __m256 columns_of(unsigned byte, const float* x) {
  const __m256 columns = _mm256_loadu_ps(x);
  return kBoth ? zero_but(place_of(byte), columns) : columns;
}
template <bool kBoth>
STROP_INLINE __m256 add_byte(unsigned byte, const BFloat16* values, const float* x, __m256 sum) {
  const __m256i from = _mm256_load_si256(reinterpret_cast<const __m256i*>(kSpread.upper[byte]));
  const __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  const __m256i spread = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(next), from);
  return _mm256_fmadd_ps(_mm256_castsi256_ps(spread), columns_of<kBoth>(byte, x), sum);
}
template <bool kBoth>
STROP_INLINE __m256 add_byte(unsigned byte, const Float16* values, const float* x, __m256 sum) {
  const __m128i from = _mm_load_si128(reinterpret_cast<const __m128i*>(kSpread.word[byte]));
  const __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(values));
  const __m256 spread = _mm256_cvtph_ps(_mm_shuffle_epi8(next, from));
  return _mm256_fmadd_ps(spread, columns_of<kBoth>(byte, x), sum);
}

STROP_INLINE float sum_of(__m256 all) {
  float lanes[8];
  _mm256_storeu_ps(lanes, all);
  const float result = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                       ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  return result + 0.0f;  // no -0: the sign of a 0 that a lane without a weight adds is x's
}

template <bool kBoth, class V>
STROP_INLINE float product_by_bytes(const std::uint64_t* words, std::int64_t count, const V* values,
                                    const float* x) {
  __m256 sum[4] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t word = words[i];
    prefetch(reinterpret_cast<const std::uint8_t*>(values) + kRowAhead);
    unrolled<8>([&](auto byte) STROP_UNROLLED {
      // (counted from the word's first value: one byte does not wait for another)
      const std::uint64_t before = word & ((std::uint64_t{1} << 8 * byte) - 1);
      sum[byte % 4] =
          add_byte<kBoth>(word >> 8 * byte & 0xff, values + __builtin_popcountll(before),
                          x + 64 * i + 8 * byte, sum[byte % 4]);
    });
    values += __builtin_popcountll(word);
  }
  return sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

#if defined(__AVX512F__)
// Expanding moves and masks: 16 columns keep one port of an Intel three cycles, where memory takes
// longer, and a Zen 5 six. A plan may have AVX2's kernel there. Lanes without a weight stay as they
// are, whatever x holds.
STROP_INLINE void add_word(std::uint64_t word, const float* values, const float* x,
                           __m512 (&sum)[4]) {
  unrolled<4>([&](auto i) STROP_UNROLLED {
    auto kept = static_cast<__mmask16>(word >> 16 * i);
    __m512 next = _mm512_loadu_ps(values);
    values += __builtin_popcount(kept);
    keep_in_mask(kept);      // moved once: that takes the port that expands
    keep_in_register(next);  // (of memory, expanding takes an Intel twice as long)
    const __m512 spread = _mm512_maskz_expand_ps(kept, next);
    sum[i] = _mm512_mask3_fmadd_ps(spread, _mm512_loadu_ps(x + 16 * i), sum[i], kept);
  });
}

#if defined(__AVX512VBMI2__)
STROP_INLINE __m512 widened(__m256i values, BFloat16) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
}
STROP_INLINE __m512 widened(__m256i values, Float16) { return _mm512_cvtph_ps(values); }

template <class V>
STROP_INLINE void add_word(std::uint64_t word, const V* values, const float* x, __m512 (&sum)[4]) {
  unrolled<2>([&](auto i) STROP_UNROLLED {
    const std::uint64_t before = word & ((std::uint64_t{1} << 32 * i) - 1);
    const auto kept = static_cast<__mmask32>(word >> 32 * i);
    __m512i next = _mm512_loadu_si512(values + __builtin_popcountll(before));
    keep_in_register(next);
    const __m512i spread = _mm512_maskz_expand_epi16(kept, next);
    const __m512 low = widened(_mm512_castsi512_si256(spread), V{});
    const __m512 high = widened(_mm512_extracti64x4_epi64(spread, 1), V{});
    const float* const from = x + 32 * i;
    sum[2 * i] =
        _mm512_mask3_fmadd_ps(low, _mm512_loadu_ps(from), sum[2 * i], static_cast<__mmask16>(kept));
    sum[2 * i + 1] = _mm512_mask3_fmadd_ps(high, _mm512_loadu_ps(from + 16), sum[2 * i + 1],
                                           static_cast<__mmask16>(kept >> 16));
  });
}
template <class V>
inline constexpr bool kExpands = true;
#else
template <class V>
inline constexpr bool kExpands = sizeof(V) == 4;
#endif

template <class V>
STROP_INLINE float product_by_words(const std::uint64_t* words, std::int64_t count, const V* values,
                                    const float* x) {
  __m512 sum[4] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const auto* const ahead = reinterpret_cast<const std::uint8_t*>(values) + kRowAhead;
    prefetch(ahead);
    prefetch(ahead + 64);
    prefetch(reinterpret_cast<const std::uint8_t*>(words + i) + kRowAhead / 8);
    add_word(words[i], values, x + 64 * i, sum);
    values += __builtin_popcountll(words[i]);
  }
  const __m512 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  return sum_of(_mm512_castps512_ps256(all) +
                _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(all), 1)));
}
#else
template <class V>
inline constexpr bool kExpands = false;
#endif

template <bool kBoth, class V>
STROP_INLINE float product(const std::uint64_t* words, std::int64_t count, const V* values,
                           const float* x) {
#if defined(__AVX512F__)
  if constexpr (kExpands<V>) return product_by_words(words, count, values, x);
#endif
  return product_by_bytes<kBoth>(words, count, values, x);
}
#else
template <class V>
STROP_INLINE bool may_be_no_number(const LayoutHeader&, bool) {
  return false;
}
// The nonzeros of a row one by one.
template <bool, class V>
STROP_INLINE float product(const std::uint64_t* words, std::int64_t count, const V* values,
                           const float* x) {
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::uint64_t word = words[i]; word != 0; word &= word - 1) {
      sum += to_float(*values++) * x[64 * i + __builtin_ctzll(word)];
    }
  }
  return sum;
}
#endif

// A row of x as floats, with zeros to the end of its last word. Returns whether all are finite.
template <class T>
bool widen_row(const T* row, std::int64_t count, std::int64_t whole, float* x) {
  Vec none(0.0f);  // what v - v is, unless v is Inf or NaN
  for (std::int64_t k = 0; k < whole; k += kLanes) {
    const std::int64_t left = count - k;
    Vec v(0.0f);
    if (left > 0) v = left >= kLanes ? load(row + k) : load_first(row + k, left);
    none = none + (v - v);
    store<false>(x + k, v);
  }
  return lane_bits(eq(none, Vec(0.0f))) == (1u << kLanes) - 1;
}

// Rows [begin, end) of the weight times one row of x.
template <class V, class T>
void multiply_row(const MaskedLinearArgs& args, const float* x, bool x_is_finite, T* y,
                  std::int64_t begin, std::int64_t end) {
  const LayoutHeader& header = args.header();
  const auto* const layout = static_cast<const std::uint8_t*>(args.layout);
  const auto* const starts = reinterpret_cast<const std::int64_t*>(layout + header.first);
  const auto* const bits = reinterpret_cast<const std::uint64_t*>(layout + header.second);
  const auto* const values = reinterpret_cast<const V*>(layout + header.third);
  const std::int64_t row_words = header.row_words();
  const bool both = may_be_no_number<V>(header, x_is_finite);
  constexpr std::int64_t kRows = 64;
  float sums[kRows];
  for (std::int64_t row = begin; row < end; row += kRows) {
    const std::int64_t count = end - row < kRows ? end - row : kRows;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::uint64_t* const of_row = bits + (row + i) * row_words;
      const V* const from = values + starts[row + i];
      sums[i] = both ? product<true>(of_row, row_words, from, x)
                     : product<false>(of_row, row_words, from, x);
    }
    put_row(args, sums, row, count, y);
  }
}

}  // namespace

void multiply_mask(const MaskedLinearArgs& args, float* words, std::int64_t begin,
                   std::int64_t end) {
  const LayoutHeader& header = args.header();
  by_narrow_dtype(args.dtype, [&]<class T>() {
    for (std::int64_t m = 0; m < args.rows; ++m) {
      const T* const row = static_cast<const T*>(args.x) + m * args.x_stride;
      const bool finite = widen_row(row, header.columns, header.row_words() * 64, words);
      T* const y = static_cast<T*>(args.y) + m * args.y_stride;
      by_narrow_dtype(header.values(),
                      [&]<class V>() { multiply_row<V>(args, words, finite, y, begin, end); });
    }
  });
}

}  // namespace strop::linear::simd::STROP_ISA
