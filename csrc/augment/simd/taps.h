#pragma once

#include "augment/simd/positions.h"

// The loop "sample": taps of a row, mixed. See Note [Warping on a CPU]. A vector of 2 * kLanes
// words has the pixels k, k + 8, k + 16... of a stretch of 2 * kLanes in its stretches of 16 bytes,
// so that what is turned over within these comes out in order.

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// The first bytes of words go over to the second ones by a fraction, in multiples of 1/kMixedOne.
STROP_INLINE I16 mixed_rows(I16 upper_and_lower, I16 fraction) {
  const I16 upper = weighted_bytes<kMixedOne, 0>(upper_and_lower);
  const I16 difference = weighted_bytes<-kMixedOne, kMixedOne>(upper_and_lower);
  return upper + rounded_product(difference, fraction);
}

struct TapRow {
  const std::uint8_t* upper;  // rows of a box
  const std::uint8_t* lower;
  const std::int32_t* offset;
};

// Pixels 2 kPair and 2 kPair + 1 of each eight: words of both for channel 0, for channel 1, ...
template <int kPair>
STROP_INLINE I16 mixed_pair(const TapRow& from, I16 fraction_x, I16 fraction_y) {
  const std::int32_t* const even = from.offset + kPair;
  const std::int32_t* const odd = even + kLanes;
  const I16 first = zip_bytes(gathered_eights(from.upper, even), gathered_eights(from.lower, even));
  const I16 second = zip_bytes(gathered_eights(from.upper, odd), gathered_eights(from.lower, odd));
  const I16 x = repeated_pair<kPair>(fraction_x), y = repeated_pair<kPair>(fraction_y);
  const I16 left = mixed_rows(zip_words(first, second), y);
  const I16 right = mixed_rows(zip_words_high(first, second), y);
  return left + rounded_product(right - left, x);
}

STROP_INLINE std::int16_t* words_of_row(WarpScratch& scratch, int channel) {
  return reinterpret_cast<std::int16_t*>(scratch.rows[channel]);
}

template <int kChannels>
STROP_INLINE void sample_pixels(WarpScratch& scratch, std::int64_t stride, Columns columns) {
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    const I16 x = load_unaligned<I16>(scratch.fractions_x + c);
    const I16 y = load_unaligned<I16>(scratch.fractions_y + c);
    const TapRow from = {scratch.pixels, scratch.pixels + stride, scratch.offsets + c};
    const I16 a = mixed_pair<0>(from, x, y), b = mixed_pair<1>(from, x, y);
    const I16 d = mixed_pair<2>(from, x, y), e = mixed_pair<3>(from, x, y);
    const I16 first = zip_pairs(a, b), second = zip_pairs(d, e);
    const I16 third = zip_pairs_high(a, b), fourth = zip_pairs_high(d, e);
    store_unaligned(words_of_row(scratch, 0) + c, zip_fours(first, second));
    store_unaligned(words_of_row(scratch, 1) + c, zip_fours_high(first, second));
    store_unaligned(words_of_row(scratch, 2) + c, zip_fours(third, fourth));
    if constexpr (kChannels == 4) {
      store_unaligned(words_of_row(scratch, 3) + c, zip_fours_high(third, fourth));
    }
  }
}

// One channel: a pixel of the box is its own four taps, upper left, lower left, upper right, lower
// right.
STROP_INLINE void sample_grey(WarpScratch& scratch, Columns columns) {
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    const I32 x = load_unaligned<I32>(scratch.fractions_x + c);
    const I32 y = load_unaligned<I32>(scratch.fractions_y + c);
    // Words of left and right taps; of an even column both take its low fraction, an odd one's is
    // the high one.
    const auto mixed = [&](int first, I32 own_x, I32 own_y) {
      const I16 taps = bit_cast<I16>(gathered(scratch.pixels, scratch.offsets + c + first));
      const I32 both = bit_cast<I32>(mixed_rows(taps, bit_cast<I16>(own_y)));
      const I16 left = bit_cast<I16>(both), right = bit_cast<I16>(both >> 16);
      return bit_cast<U32>(left + rounded_product(right - left, bit_cast<I16>(own_x)));
    };
    const auto low = [](I32 v) {
      return bit_cast<I32>(join_halves(bit_cast<U32>(v), bit_cast<U32>(v) << 16));
    };
    const auto high = [](I32 v) {
      return bit_cast<I32>(join_halves(bit_cast<U32>(v) >> 16, bit_cast<U32>(v)));
    };
    const U32 even = mixed(0, x, low(y)), odd = mixed(kLanes, high(x), high(y));
    store_unaligned(words_of_row(scratch, 0) + c, join_halves(even, odd << 16));
  }
}

}  // namespace strop::augment::simd::STROP_ISA
