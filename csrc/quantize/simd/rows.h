#pragma once

// Rows of fake_quantize: straight runs of memory under the block parameters of a tile. Compiled
// once per instruction set; see Note [Quantize tiles] in quantize/kernels.h.

#include "core/simd/mask_bits.h"
#include "core/simd/vector.h"
#include "quantize/kernels.h"
#include "quantize/simd/codecs.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// How the blocks of a tile lie along a row.
struct BlockSteps {
  std::int64_t block;  // columns
  std::int64_t first;  // the block that the run begins in
  std::int64_t into;   // columns of it that lie before the run
};

// Where the mask's bits of a run go.
struct MaskRun {
  std::uint8_t* mask;
  std::int64_t at;        // the bit of the run's first element
  std::uint8_t* scratch;  // as many bits as the run has, where they do not begin a byte
};

template <class T>
struct RowRun {
  const T* input;
  T* output;
  const float* random;  // of every element; only for stochastic rounding
  std::int64_t count;
  BlockSteps steps;
  bool stream;
  bool saturates;      // elements' results may be beyond T: see Note [Saturation]
  std::int64_t ahead;  // elements, of what to prefetch
  MaskRun bits;        // only where there is a mask
};

struct QuantizedPair {
  Pair value;
  I32 a_in_range;
  I32 b_in_range;
};

// Holds results of a format without bounds within what T holds: see Note [Saturation].
template <class T, class Block>
STROP_INLINE void hold(const Block& block, Vec x, Quantized<Vec>& results) {
  const Vec most(static_cast<float>(kLargestNumber<T>));
  results.value = saturated(results.value, x, {block.inverse, block.scale, Vec(0.0f)}, most);
}

// Magnitudes that order as integers do; NaN is beyond every number.
STROP_INLINE I32 size_bits(Vec v) { return bit_cast<I32>(magnitude(v).v); }
STROP_INLINE I32 size_bits(const QuantizedPair& pair) {
  return larger(size_bits(pair.value.a), size_bits(pair.value.b));
}

// Whether a lane is beyond what T holds.
template <class T>
STROP_INLINE bool beyond(I32 sizes) {
  const Vec most(static_cast<float>(kLargestNumber<T>));
  return lane_bits(I32(sizes > bit_cast<I32>(most.v))) != 0;
}

template <class Codec, class T>
STROP_INLINE Quantized<Vec> results_of(const typename Codec::Block& block, Vec x, Vec u, const T*) {
  Quantized<Vec> results = block.of(x, u);
  if constexpr (!Codec::kBounded) {
    if (beyond<T>(size_bits(results.value))) [[unlikely]]
      hold<T>(block, x, results);
  }
  return results;
}

// Of a pair whose two vectors may be of two blocks.
template <class Block>
STROP_INLINE QuantizedPair pair_of(const Block& first, const Block& second, Pair x) {
  const Quantized<Vec> a = first.of(x.a, Vec(0.0f)), b = second.of(x.b, Vec(0.0f));
  return {{a.value, b.value}, a.in_range, b.in_range};
}
template <class Block>
STROP_INLINE QuantizedPair pair_of(const Block& block, Pair x) {
  return pair_of(block, block, x);
}

template <class T, class Block>
STROP_INLINE void hold(const Block& first, const Block& second, Pair x, QuantizedPair& pair) {
  Quantized<Vec> a = {pair.value.a, {}}, b = {pair.value.b, {}};
  hold<T>(first, x.a, a);
  hold<T>(second, x.b, b);
  pair.value = {a.value, b.value};
}

// Stores a pair's mask bits at a place that begins a byte.
template <class T>
STROP_INLINE void store_pair_bits(std::uint8_t* to, const T* kind, const QuantizedPair& pair) {
  const std::uint32_t bits = pair_bits(kind, pair.a_in_range, pair.b_in_range);
  std::memcpy(to, &bits, kLanes / 4);
}

// A block's part of a row that no vector fits.
template <class Codec, bool kMask, class T>
STROP_INLINE void quantize_few(const RowRun<T>& run, const typename Codec::Block& value) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const Vec u = kRandom ? load_first(run.random, run.count) : Vec(0.0f);
  const Vec x = load_first(run.input, run.count);
  const Quantized<Vec> few = results_of<Codec>(value, x, u, run.input);
  store_first(run.output, few.value, run.count);
  if constexpr (kMask) {
    BitWriter bits{run.bits.mask, run.bits.at};
    bits.add(lane_bits(few.in_range), static_cast<int>(run.count));
    bits.flush();
  }
}

// Four vectors at a time of a run, enough loads in flight to keep memory busy. Returns how many
// elements it did.
template <class Codec, bool kStream, bool kMask, class T>
STROP_INLINE std::int64_t quantize_fours(const RowRun<T>& run, const typename Codec::Block& value) {
  const T* const input = run.input;
  T* const output = run.output;
  const bool whole = run.bits.at % 8 == 0;
  std::uint8_t* const to = whole ? run.bits.mask + run.bits.at / 8 : run.bits.scratch;
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= run.count; i += 4 * kLanes) {
    prefetch(input + i + run.ahead);
    prefetch(input + i + run.ahead + 2 * kLanes);
    QuantizedPair first = pair_of(value, load_pair(input + i));
    QuantizedPair second = pair_of(value, load_pair(input + i + 2 * kLanes));
    if constexpr (!Codec::kBounded) {
      if (beyond<T>(larger(size_bits(first), size_bits(second)))) [[unlikely]] {
        hold<T>(value, value, load_pair(input + i), first);
        hold<T>(value, value, load_pair(input + i + 2 * kLanes), second);
      }
    }
    store_pair<kStream>(output + i, first.value);
    store_pair<kStream>(output + i + 2 * kLanes, second.value);
    if constexpr (kMask) {
      store_pair_bits(to + i / 8, output, first);
      store_pair_bits(to + i / 8 + kLanes / 4, output, second);
    }
  }
  if (kMask && !whole) put_bits(run.bits.mask, run.bits.at, run.bits.scratch, i);
  return i;
}

// One block's part of a row. The last vector, which may overlap the one before, is computed first:
// in place, its elements have not been written then.
template <class Codec, bool kMask, class T>
STROP_INLINE void quantize_run(const RowRun<T>& run, const typename Codec::Block& value) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const T* const input = run.input;
  T* const output = run.output;
  const std::int64_t count = run.count;
  BitWriter bits{run.bits.mask, run.bits.at};
  if (count < kLanes) return quantize_few<Codec, kMask>(run, value);
  const auto at = [&](std::int64_t i) {
    return results_of<Codec>(value, load(input + i), kRandom ? load(run.random + i) : Vec(0.0f),
                             input);
  };
  const std::int64_t rest = count % kLanes;
  const Quantized<Vec> last = rest != 0 ? at(count - kLanes) : Quantized<Vec>{};
  std::int64_t i = 0;
  if constexpr (!kRandom) {
    i = run.stream && aligned_for_stream(output) ? quantize_fours<Codec, true, kMask>(run, value)
                                                 : quantize_fours<Codec, false, kMask>(run, value);
    bits.at += i;
  }
  for (; i + kLanes <= count; i += kLanes) {
    const Quantized<Vec> one = at(i);
    store<false>(output + i, one.value);
    if constexpr (kMask) bits.add(lane_bits(one.in_range), kLanes);
  }
  if (rest != 0) {
    store<false>(output + count - kLanes, last.value);
    if constexpr (kMask) {
      bits.add(lane_bits(last.in_range) >> (kLanes - rest), static_cast<int>(rest));
    }
  }
  if constexpr (kMask) bits.flush();
}

// Whole blocks of whole pairs of vectors, which is what groups are in practice: nothing but
// arithmetic between one group and the next. Returns how many elements it did.
template <class Codec, bool kStream, bool kMask, class T>
STROP_INLINE std::int64_t quantize_groups(const RowRun<T>& row, const TileParams& params,
                                          const Codec& codec) {
  const std::int64_t block = row.steps.block;
  const T* input = row.input;
  T* output = row.output;
  const bool whole = row.bits.at % 8 == 0;
  std::uint8_t* bits = whole ? row.bits.mask + row.bits.at / 8 : row.bits.scratch;
  std::int64_t done = 0;
  for (std::int64_t g = row.steps.first; done + block <= row.count; ++g, done += block) {
    const typename Codec::Block value(codec, params, g);
    for (std::int64_t i = 0; i < block; i += 2 * kLanes) {
      prefetch(input + row.ahead);
      QuantizedPair pair = pair_of(value, load_pair(input));
      if constexpr (!Codec::kBounded) {
        if (beyond<T>(size_bits(pair))) [[unlikely]]
          hold<T>(value, value, load_pair(input), pair);
      }
      store_pair<kStream>(output, pair.value);
      if constexpr (kMask) {
        store_pair_bits(bits, output, pair);
        bits += kLanes / 4;
      }
      input += 2 * kLanes;
      output += 2 * kLanes;
    }
  }
  if (kMask && !whole) put_bits(row.bits.mask, row.bits.at, row.bits.scratch, done);
  return done;
}

// The same where a block is one vector: two of them a pair.
template <class Codec, bool kStream, bool kMask, class T>
STROP_INLINE std::int64_t quantize_vectors(const RowRun<T>& row, const TileParams& params,
                                           const Codec& codec) {
  using Block = typename Codec::Block;
  constexpr std::int64_t kPair = 2 * kLanes;
  const bool whole = row.bits.at % 8 == 0;
  std::uint8_t* const bits = whole ? row.bits.mask + row.bits.at / 8 : row.bits.scratch;
  std::int64_t done = 0;
  for (std::int64_t g = row.steps.first; done + kPair <= row.count; g += 2, done += kPair) {
    prefetch(row.input + done + row.ahead);
    const Block first(codec, params, g), second(codec, params, g + 1);
    const Pair x = load_pair(row.input + done);
    QuantizedPair pair;
    if constexpr (kPairsInterleave<T>) {
      pair = pair_of(Block(first, second), x);
    } else {
      pair = pair_of(first, second, x);
    }
    if constexpr (!Codec::kBounded) {
      if (beyond<T>(size_bits(pair))) [[unlikely]] {
        const bool mixed = kPairsInterleave<T>;
        const Block both(first, second);
        hold<T>(mixed ? both : first, mixed ? both : second, x, pair);
      }
    }
    store_pair<kStream>(row.output + done, pair.value);
    if constexpr (kMask) store_pair_bits(bits + done / 8, row.output, pair);
  }
  if (kMask && !whole) put_bits(row.bits.mask, row.bits.at, row.bits.scratch, done);
  return done;
}

STROP_INLINE bool vectors_fill(const BlockSteps& steps) {
  return steps.into == 0 && steps.block == kLanes;
}

STROP_INLINE bool pairs_fill(const BlockSteps& steps) {
  constexpr std::int64_t kLong = 16 * kLanes;  // beyond it a run's own loop does as well
  return steps.into == 0 && steps.block <= kLong && steps.block % (2 * kLanes) == 0;
}

// A row whose blocks are runs of some length, and their parameters usual ones.
template <class Codec, bool kMask, class T>
void quantize_blocks(const RowRun<T>& row, const TileParams& params, const QuantizeRule& rule) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const Codec codec(rule);
  RowRun<T> run = row;
  std::int64_t done = 0;
  if constexpr (!kRandom) {
    const bool stream = row.stream && aligned_for_stream(row.output);
    if (pairs_fill(row.steps)) {
      done = stream ? quantize_groups<Codec, true, kMask>(row, params, codec)
                    : quantize_groups<Codec, false, kMask>(row, params, codec);
    } else if (vectors_fill(row.steps)) {
      done = stream ? quantize_vectors<Codec, true, kMask>(row, params, codec)
                    : quantize_vectors<Codec, false, kMask>(row, params, codec);
    }
  }
  std::int64_t block = row.steps.first + done / row.steps.block;
  std::int64_t left = row.count - done;
  run.input += done;
  run.output += done;
  run.bits.at += done;
  run.count = row.steps.block - row.steps.into;
  for (; left > 0; ++block, left -= run.count, run.count = row.steps.block) {
    if (run.count > left) run.count = left;
    const typename Codec::Block value(codec, params, block);
    quantize_run<Codec, kMask>(run, value);
    run.input += run.count;
    run.output += run.count;
    run.bits.at += run.count;
    if constexpr (kRandom) run.random += run.count;
  }
}

// A row whose every element has parameters of its own, by the formula as it stands.
template <class Codec, class T>
void quantize_elements(const RowRun<T>& row, const TileParams& params, const QuantizeRule& rule) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const Codec codec(rule);
  const Vec zero(0.0f), most(static_cast<float>(kLargestNumber<T>));
  const bool stream = row.stream && aligned_for_stream(row.output);
  const bool unbounded = rule.unbounded();
  const auto results_at = [&](Vec x, const QuantizeParams<Vec>& p,
                              Vec u) __attribute__((always_inline)) {
    Quantized<Vec> results = codec.at(x, p, u);
    if (row.saturates) [[unlikely]] {
      results.value = saturated(results.value, unbounded ? x : zero, p, most);
    }
    return results;
  };
  BitWriter bits{row.bits.mask, row.bits.at};
  std::int64_t i = 0;
  for (; i + kLanes <= row.count; i += kLanes) {
    const QuantizeParams<Vec> p = {load(params.inverse + i), load(params.scale + i),
                                   load(params.zero_point + i)};
    const Quantized<Vec> one =
        results_at(load(row.input + i), p, kRandom ? load(row.random + i) : zero);
    if (stream) {
      store<true>(row.output + i, one.value);
    } else {
      store<false>(row.output + i, one.value);
    }
    if (row.bits.mask != nullptr) bits.add(lane_bits(one.in_range), kLanes);
  }
  if (const std::int64_t rest = row.count - i; rest > 0) {
    const auto first = [&](const auto* from) { return load_first(from + i, rest); };
    const QuantizeParams<Vec> p = {first(params.inverse), first(params.scale),
                                   first(params.zero_point)};
    const Quantized<Vec> some = results_at(first(row.input), p, kRandom ? first(row.random) : zero);
    store_first(row.output + i, some.value, rest);
    bits.add(lane_bits(some.in_range), static_cast<int>(rest));
  }
  if (row.bits.mask != nullptr) bits.flush();
}

// The rows of one format and rounding.
template <class T>
struct RowKernels {
  using Function = void (*)(const RowRun<T>&, const TileParams&, const QuantizeRule&);
  Function blocks;
  Function blocks_and_mask;
  Function elements;
  Function elements_floating_zero;
};

// Each in a source of its own.
template <class T>
const RowKernels<T>& integer_rows(const QuantizeRule& rule);
template <class T>
const RowKernels<T>& float_rows(Rounding rounding);
template <class T>
const RowKernels<T>& nf4_rows();

}  // namespace strop::quantize::simd::STROP_ISA
