#pragma once

// Rows of fake_quantize: straight runs of memory under the block parameters of a tile. Compiled once
// per instruction set; see Note [Quantize tiles] in cpu/quantize.h.

#include "cpu/quantize.h"
#include "cpu/vector.h"
#include "kernels/philox.h"

namespace strop::cpu::STROP_ISA {

// Parameters of the blocks of a tile, or of each of its elements.
struct alignas(64) TileParams {
  float inverse[kMaxTileBlocks];
  float scale[kMaxTileBlocks];
  float zero_point[kMaxTileBlocks];
};

// Ordered extremes of the blocks of a tile. They begin at 0: an asymmetric range includes it, and no
// |x| is less.
struct alignas(64) TileExtremes {
  std::int32_t min[kMaxTileBlocks];
  std::int32_t max[kMaxTileBlocks];
};

// How the blocks of a tile lie along a row.
struct BlockSteps {
  std::int64_t block;  // columns
  std::int64_t first;  // the block that the run begins in
  std::int64_t into;   // columns of it that lie before the run
};

struct RowRule {
  CodeRange<Vec> range;
  bool zero_point_before;  // floating: added before rounding
};

template <class T>
struct RowRun {
  const T* input;
  T* output;
  const float* random;  // of every element; only for stochastic rounding
  std::int64_t count;
  BlockSteps steps;
  bool stream;
};

STROP_INLINE QuantizeParams<Vec> row_params(Vec inverse, Vec scale, Vec zero_point,
                                            const RowRule& rule) {
  const Vec zero(0.0f);
  return {inverse, scale, rule.zero_point_before ? zero_point : zero,
          rule.zero_point_before ? zero : zero_point};
}

// One block's part of a row, four vectors at a time: enough loads in flight to keep memory busy.
template <Rounding kRounding, bool kStream, class T>
STROP_INLINE void quantize_run(const RowRun<T>& run, const QuantizeParams<Vec>& params,
                               const CodeRange<Vec>& range) {
  const T* const input = run.input;
  T* const output = run.output;
  const auto at = [&](std::int64_t i) {
    const Vec u = kRounding == Rounding::kStochastic ? load(run.random + i) : Vec(0.0f);
    return fake_quantize_value<kRounding>(load(input + i), params, range, u);
  };
  std::int64_t i = 0;
  for (; i + 4 * kLanes <= run.count; i += 4 * kLanes) {
    const Vec a = at(i), b = at(i + kLanes), c = at(i + 2 * kLanes), d = at(i + 3 * kLanes);
    store<kStream>(output + i, a);
    store<kStream>(output + i + kLanes, b);
    store<kStream>(output + i + 2 * kLanes, c);
    store<kStream>(output + i + 3 * kLanes, d);
  }
  for (; i + kLanes <= run.count; i += kLanes) store<kStream>(output + i, at(i));
  if (const std::int64_t rest = run.count - i; rest > 0) {
    const Vec u = kRounding == Rounding::kStochastic ? load_first(run.random + i, rest) : Vec(0.0f);
    const Vec x = load_first(input + i, rest);
    store_first(output + i, fake_quantize_value<kRounding>(x, params, range, u), rest);
  }
}

template <class T>
STROP_INLINE bool aligned_for_stream(const T* output) {
  constexpr std::uintptr_t kBytes = kLanes * sizeof(T);
  return reinterpret_cast<std::uintptr_t>(output) % kBytes == 0;
}

// A row whose blocks are runs of some length.
template <Rounding kRounding, class T>
void quantize_blocks(const RowRun<T>& row, const TileParams& params, const RowRule& rule) {
  RowRun<T> run = row;
  std::int64_t block = row.steps.first;
  std::int64_t left = row.count;
  run.count = row.steps.block - row.steps.into;
  for (; left > 0; ++block, left -= run.count, run.count = row.steps.block) {
    if (run.count > left) run.count = left;
    const QuantizeParams<Vec> p = row_params(Vec(params.inverse[block]), Vec(params.scale[block]),
                                             Vec(params.zero_point[block]), rule);
    if (row.stream && aligned_for_stream(run.output)) {
      quantize_run<kRounding, true>(run, p, rule.range);
    } else {
      quantize_run<kRounding, false>(run, p, rule.range);
    }
    run.input += run.count;
    run.output += run.count;
    if constexpr (kRounding == Rounding::kStochastic) run.random += run.count;
  }
}

// A row whose every element has parameters of its own: steps.first counts elements.
template <Rounding kRounding, class T>
void quantize_elements(const RowRun<T>& row, const TileParams& params, const RowRule& rule) {
  const float* const inverse = params.inverse + row.steps.first;
  const float* const scale = params.scale + row.steps.first;
  const float* const zero_point = params.zero_point + row.steps.first;
  std::int64_t i = 0;
  for (; i + kLanes <= row.count; i += kLanes) {
    const Vec u = kRounding == Rounding::kStochastic ? load(row.random + i) : Vec(0.0f);
    const auto p = row_params(load(inverse + i), load(scale + i), load(zero_point + i), rule);
    store<false>(row.output + i,
                 fake_quantize_value<kRounding>(load(row.input + i), p, rule.range, u));
  }
  if (const std::int64_t rest = row.count - i; rest > 0) {
    const Vec u = kRounding == Rounding::kStochastic ? load_first(row.random + i, rest) : Vec(0.0f);
    const auto p = row_params(load_first(inverse + i, rest), load_first(scale + i, rest),
                              load_first(zero_point + i, rest), rule);
    const Vec x = load_first(row.input + i, rest);
    store_first(row.output + i, fake_quantize_value<kRounding>(x, p, rule.range, u), rest);
  }
}

// The integer that orders as the element does; for a symmetric rule, as its magnitude.
template <bool kSymmetric>
STROP_INLINE I32 ordered(Vec x) {
  const I32 bits = bit_cast<I32>(x.v);
  if constexpr (kSymmetric) {
    return bits & broadcast(0x7fffffff);
  } else {
    return bits ^ ((bits >> 31) & broadcast(0x7fffffff));
  }
}

template <bool kSymmetric, class T>
void extremes_of_blocks(const RowRun<T>& row, TileExtremes& extremes) {
  const T* input = row.input;
  std::int64_t block = row.steps.first;
  std::int64_t left = row.count;
  std::int64_t count = row.steps.block - row.steps.into;
  for (; left > 0; ++block, left -= count, count = row.steps.block) {
    if (count > left) count = left;
    I32 max = broadcast(extremes.max[block]);
    I32 min = broadcast(extremes.min[block]);
    I32 other_max = max, other_min = min;  // two chains hide the latency of one
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
      const I32 a = ordered<kSymmetric>(load(input + i));
      const I32 b = ordered<kSymmetric>(load(input + i + kLanes));
      max = larger(max, a);
      other_max = larger(other_max, b);
      if constexpr (!kSymmetric) min = smaller(min, a), other_min = smaller(other_min, b);
    }
    for (; i < count; i += kLanes) {
      const bool whole = i + kLanes <= count;
      const I32 a = ordered<kSymmetric>(whole ? load(input + i) : load_first(input + i, count - i));
      max = larger(max, a);
      if constexpr (!kSymmetric) min = smaller(min, a);
    }
    extremes.max[block] = largest(larger(max, other_max));
    if constexpr (!kSymmetric) extremes.min[block] = smallest(smaller(min, other_min));
    input += count;
  }
}

// Blocks of a few columns: `steps.first` and `steps.into` are 0, a row begins with a block.
template <bool kSymmetric, class T>
void extremes_of_elements(const RowRun<T>& row, TileExtremes& extremes) {
  const std::int64_t width = row.steps.block;
  for (std::int64_t i = 0; i < row.count; i += kLanes) {
    const std::int64_t rest = row.count - i;
    const Vec x = rest >= kLanes ? load(row.input + i) : load_first(row.input + i, rest);
    const I32 keys = ordered<kSymmetric>(x);
    if (width == 1) {  // the arrays hold a whole last vector, whose unused lanes are 0
      store_unaligned(extremes.max + i, larger(load_unaligned<I32>(extremes.max + i), keys));
      if constexpr (!kSymmetric) {
        store_unaligned(extremes.min + i, smaller(load_unaligned<I32>(extremes.min + i), keys));
      }
      continue;
    }
    for (std::int64_t lane = 0; lane < kLanes && lane < rest; ++lane) {
      const std::int64_t block = (i + lane) / width;
      if (keys[lane] > extremes.max[block]) extremes.max[block] = keys[lane];
      if (keys[lane] < extremes.min[block]) extremes.min[block] = keys[lane];
    }
  }
}

// Random numbers of `count` elements whose indices begin at `index`, `step` apart.
STROP_INLINE void fill_random_scalar(float* to, std::uint64_t seed, std::uint64_t index,
                                     std::uint64_t step, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i, index += step) {
    to[i] = philox_uniform(seed, RandomStream::kFakeQuantize, index);
  }
}

// kLanes Philox blocks: 4 * kLanes numbers from an index that is a multiple of 4.
STROP_INLINE void fill_random_vectors(float* to, std::uint64_t seed, std::uint64_t index) {
  std::uint32_t low[kLanes], high[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const std::uint64_t counter = (index >> 2) + static_cast<std::uint64_t>(lane);
    low[lane] = static_cast<std::uint32_t>(counter);
    high[lane] = static_cast<std::uint32_t>(counter >> 32);
  }
  U32 c0 = load_unaligned<U32>(low), c1 = load_unaligned<U32>(high);
  U32 c2 = broadcast(static_cast<std::uint32_t>(RandomStream::kFakeQuantize));
  U32 c3 = broadcast(0u);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    U32 high0, low0, high1, low1;
    multiply_wide(c0, kPhiloxMultiplier0, high0, low0);
    multiply_wide(c2, kPhiloxMultiplier1, high1, low1);
    c0 = high1 ^ c1 ^ broadcast(k0);
    c1 = low1;
    c2 = high0 ^ c3 ^ broadcast(k1);
    c3 = low0;
    k0 += kPhiloxKeyStep0;
    k1 += kPhiloxKeyStep1;
  }
  float words[4][kLanes];
  const F32 unit = broadcast(0x1p-24f);
  const U32 outputs[4] = {c0, c1, c2, c3};
  for (int word = 0; word < 4; ++word) {
    const I32 top = bit_cast<I32>(outputs[word] >> 8);
    store_unaligned(words[word], __builtin_convertvector(top, F32) * unit);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int word = 0; word < 4; ++word) to[4 * lane + word] = words[word][lane];
  }
}

STROP_INLINE void fill_random(float* to, std::uint64_t seed, std::uint64_t index,
                              std::uint64_t step, std::int64_t count) {
  if (step != 1) return fill_random_scalar(to, seed, index, step, count);
  std::int64_t head = static_cast<std::int64_t>((4 - index % 4) % 4);
  if (head > count) head = count;
  fill_random_scalar(to, seed, index, 1, head);
  std::int64_t i = head;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    fill_random_vectors(to + i, seed, index + static_cast<std::uint64_t>(i));
  }
  fill_random_scalar(to + i, seed, index + static_cast<std::uint64_t>(i), 1, count - i);
}

}  // namespace strop::cpu::STROP_ISA
