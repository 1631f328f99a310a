#pragma once

// Products of bfloat16 x with the values of codes by AMX. Compiled once per instruction set; there
// is nothing here for sets without it.
//
// A value times its scale is no bfloat16, but the value alone mostly is: an integer less a whole
// zero point, or a float of few bits. So values are multiplied, and a group's scale multiplies its
// sum. Other values (NF4's, and those less a zero point with a fraction) are sums of three bfloat16
// each, to the last bit, which are multiplied one after another.
//
// Beside the products, 32 columns of nibbles take 16 times six instructions to decode, and the end
// of a group takes 32 stores for each 16 rows of x: as long as products of 64 columns.

#include "linear/simd/decode.h"
#include "linear/simd/spread.h"
#include "linear/simd/tiles.h"

#if defined(__AMX_BF16__)
#define STROP_FLOAT_TILES

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

static_assert(kRowVectors == 1);

// Whether x is kept as it is, for tiles.
STROP_INLINE bool suits_float_tiles(const CodesTask& task) {
  return task.args.dtype == DType::kBFloat16 && task.args.rows >= kMinTileRows;
}

// Of each lane.
STROP_INLINE F32 zero_points(const PanelBlock& block, std::int64_t group) {
  const CodesHeader& header = block.header;
  if (header.zeros != 0) return load_unaligned<F32>(block.numbers<float>(header.zeros, group));
  return broadcast(static_cast<float>(header.same_zero));
}
// Whether all of them are whole numbers of [low, high].
STROP_INLINE bool have_whole_zeros(const PanelBlock& block, float low, float high) {
  I32 all = broadcast(-1);
  for (std::int64_t group = 0; group < block.header.groups; ++group) {
    const F32 zero = zero_points(block, group);
    all &= I32(round_half_even(zero) == zero) & I32(zero >= low) & I32(zero <= high);
  }
  return smallest(all) == -1 && largest(all) == -1;
}

// Takes from v what a bfloat16 holds of it, in the upper half of the result.
STROP_INLINE U32 take_upper_half(F32& v) {
  const U32 upper = bit_cast<U32>(v) & broadcast(0xffff0000u);
  v -= bit_cast<F32>(upper);
  return upper;
}

// Decodes two columns to pairs, as a tile has them; of kTerms bfloat16 whose sums the values are.
template <class Decoder, int kCount>
class DecodedPairs {
 public:
  static constexpr int kTerms = kCount, kSteps = 2 / Decoder::kColumns;
  static constexpr int kBytes = kSteps * Decoder::kBytes;

  explicit DecodedPairs(const CodesHeader& header) : decoder_(header) {}
  STROP_MEMBER float factor() const { return decoder_.factor(); }
  STROP_MEMBER void start_group(F32 zero) { zero_ = zero; }

  STROP_MEMBER void put(const std::uint8_t* from, std::uint8_t* to, std::int64_t apart) const {
    F32 values[kSteps][Decoder::kColumns][1];
    for (int step = 0; step < kSteps; ++step) {
      decoder_.decode(from + step * Decoder::kBytes, values[step]);
    }
    F32 even = values[0][0][0], odd = values[kSteps - 1][Decoder::kColumns - 1][0];
    if constexpr (Decoder::kZero) {
      even -= zero_;
      odd -= zero_;
    }
    for (int term = 0; term < kTerms; ++term) {
      const U32 low = take_upper_half(even) >> 16;
      store_unaligned(to + term * apart, low | take_upper_half(odd));
    }
  }

 private:
  Decoder decoder_;
  F32 zero_ = {};
};

// The same for nibbles, by tables of 32 words. They have those of the format twice; or, of an
// integer, what a nibble less a zero point that is one can be.
template <int kCount>
class NibblePairs {
 public:
  static constexpr int kTerms = kCount, kBytes = kPanelRows;

  explicit NibblePairs(const CodesHeader& header)
      : integers_(header.code_kind == CodeKind::kInteger) {
    std::uint16_t words[kTerms][kEntries];
    for (int i = 0; i < kEntries; ++i) {
      float value = integers_ ? static_cast<float>(i - kZeroEntry) : header.table[i % 16];
      for (int term = 0; term < kTerms; ++term) {
        const std::uint32_t upper = float_bits(value) & 0xffff0000u;
        words[term][i] = static_cast<std::uint16_t>(upper >> 16);
        value -= bits_float(upper);
      }
    }
    for (int term = 0; term < kTerms; ++term) tables_[term] = load_unaligned<__m512i>(words[term]);
  }
  STROP_MEMBER float factor() const { return 1; }
  STROP_MEMBER void start_group(F32 zero) {
    if (!integers_) return;
    const I32 first = broadcast(kZeroEntry) - __builtin_convertvector(zero, I32);
    first_ = first | first << 16;
  }

  STROP_MEMBER void put(const std::uint8_t* from, std::uint8_t* to, std::int64_t apart) const {
    const I32 both = from_bytes(from);
    const I32 codes = (both | both << 12) & broadcast(0x000f000f);
    const auto entries = bit_cast<__m512i>(codes + first_);
    for (int term = 0; term < kTerms; ++term) {
      store_unaligned(to + term * apart, _mm512_permutexvar_epi16(entries, tables_[term]));
    }
  }

 private:
  static constexpr int kEntries = 32, kZeroEntry = 16;

  bool integers_;
  I32 first_ = {};  // the entry of code 0, for each of a pair
  __m512i tables_[kTerms];
};

// To tiles of `width` bytes, the terms of each one after another.
template <class Pairs>
STROP_INLINE void decode_tiles(const PanelBlock& block, Pairs& pairs,
                               const Stretch<std::uint8_t>& stretch, std::int64_t width,
                               std::uint8_t* to) {
  const std::uint8_t* codes = stretch.codes;
  const std::int64_t apart = width * kPanelRows;
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(block.header, k, stretch.end);
    pairs.start_group(zero_points(block, segment.group));
    for (; k < segment.end; to += (Pairs::kTerms - 1) * apart) {
      for (const std::uint8_t* const next = to + apart; to < next; to += kTileBytes) {
        pairs.put(codes, to, apart);
        codes += Pairs::kBytes;
      }
      k += width / 2;
    }
  }
}

template <class Pairs>
void multiply_by_float_tiles(const PanelBlock& block) {
  const CodesHeader& header = block.header;
  Pairs pairs(header);
  const std::int64_t places = header.places(), width = tile_width(2 * header.stretch);
  PanelCodes codes(block, block.spread);
  shape_tiles(width, block.rows % kTileRows);
  const F32 factor = broadcast(pairs.factor());
  const auto* const x = static_cast<const std::uint8_t*>(block.task.x) + 2 * block.row * places;
  constexpr std::int64_t kColumns = kDecodedColumns / (Pairs::kTerms == 1 ? 1 : 4);
  constexpr std::int64_t kBytes = kColumns / 2 * Pairs::kBytes;
  for (std::int64_t begin = 0; begin < places; begin += kColumns) {
    const std::int64_t end = begin + kColumns < places ? begin + kColumns : places;
    Stretch<std::uint8_t> stretch = {.begin = begin, .end = end, .codes = codes.take(begin, end)};
    if (!codes.masked()) stretch.ahead = {block.codes() + header.bytes_of(end), kBytes};
    decode_tiles(block, pairs, stretch, width, block.decoded);
    for (std::int64_t k = begin; k < end;) {
      const Segment segment = segment_at(header, k, end);
      const std::int64_t count = segment.end - k;
      stretch.ahead.fetch(k - begin, count, end - begin);
      const TileRun run = {.x = x + 2 * k,
                           .apart = 2 * places,
                           .panel = block.decoded + (k - begin) * 2 * kPanelRows * Pairs::kTerms,
                           .width = width,
                           .count = 2 * count / width,
                           .terms = Pairs::kTerms};
      const auto scale = load_unaligned<F32>(block.numbers<float>(header.scales, segment.group));
      sum_tiles<TileProducts::kBFloat16>(
          run, block.rows, [&](std::int64_t row, const std::uint8_t* sums) STROP_UNROLLED {
            float* const to = block.floats + row * kPanelRows;
            const F32 before = k == 0 ? F32{} : load_unaligned<F32>(to);
            const F32 sum = load_unaligned<F32>(sums) * factor;
            store_unaligned(to, multiply_add(sum, scale, before));
          });
      k = segment.end;
    }
  }
  _tile_release();
}

STROP_INLINE bool has_bfloat16_table(const CodesHeader& header) {
  std::uint32_t below = 0;
  for (const float value : header.table) below |= float_bits(value) & 0xffffu;
  return below == 0;
}

STROP_INLINE void multiply_by_float_tiles(const PanelBlock& block) {
  const CodesHeader& header = block.header;
  const auto multiply = [&]() {
    if (header.code_kind == CodeKind::kFloat) {
      return multiply_by_float_tiles<DecodedPairs<FloatDecoder, 1>>;
    }
    if (header.code_kind == CodeKind::kTable) {
      return has_bfloat16_table(header) ? multiply_by_float_tiles<NibblePairs<1>>
                                        : multiply_by_float_tiles<NibblePairs<3>>;
    }
    if (header.store == CodeStore::kNibbles) {
      return have_whole_zeros(block, 0, 15)
                 ? multiply_by_float_tiles<NibblePairs<1>>
                 : multiply_by_float_tiles<DecodedPairs<NibbleDecoder, 3>>;
    }
    return have_whole_zeros(block, -128, 128)
               ? multiply_by_float_tiles<DecodedPairs<ByteDecoder<true>, 1>>
               : multiply_by_float_tiles<DecodedPairs<ByteDecoder<true>, 3>>;
  }();
  multiply(block);
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
