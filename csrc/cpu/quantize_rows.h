#pragma once

// Rows of fake_quantize: straight runs of memory under the block parameters of a tile. Compiled
// once per instruction set; see Note [Quantize tiles] in cpu/quantize.h.

#include "cpu/quantize.h"
#include "cpu/vector.h"

namespace strop::cpu::STROP_ISA {

// Parameters of the blocks of a tile, or of each element of a row. `min` and `max` are of the
// shifted range: see Note [Shifted range] in kernels/quantize.h.
struct alignas(64) TileParams {
  float inverse[kMaxTileBlocks];
  float scale[kMaxTileBlocks];
  float zero_point[kMaxTileBlocks];
  float min[kMaxTileBlocks];
  float max[kMaxTileBlocks];
};

// How the blocks of a tile lie along a row.
struct BlockSteps {
  std::int64_t block;  // columns
  std::int64_t first;  // the block that the run begins in
  std::int64_t into;   // columns of it that lie before the run
};

template <class T>
struct RowRun {
  const T* input;
  T* output;
  const float* random;  // of every element; only for stochastic rounding
  std::int64_t count;
  BlockSteps steps;
  bool stream;
  std::int64_t ahead;  // elements, of what to prefetch
};

// One block's arithmetic, its parameters in registers.
template <Rounding kRounding>
struct BlockValue {
  Vec inverse;
  Vec scale;
  CodeRange<Vec> shifted;

  __attribute__((always_inline)) BlockValue(const TileParams& params, std::int64_t block)
      : inverse(params.inverse[block]),
        scale(params.scale[block]),
        shifted{Vec(params.min[block]), Vec(params.max[block])} {}

  __attribute__((always_inline)) Vec of(Vec x, Vec u) const {
    return fake_quantize_shifted<kRounding>(x, inverse, scale, shifted, u);
  }
  __attribute__((always_inline)) Pair of(Pair x) const {
    return {of(x.a, Vec(0.0f)), of(x.b, Vec(0.0f))};
  }
};

// One block's part of a row: four vectors at a time, enough loads in flight to keep memory busy.
// The last vector, which may overlap the one before, is computed first: in place, its elements have
// not been written then.
template <Rounding kRounding, bool kStream, class T>
STROP_INLINE void quantize_run(const RowRun<T>& run, const BlockValue<kRounding>& value) {
  constexpr bool kRandom = kRounding == Rounding::kStochastic;
  const T* const input = run.input;
  T* const output = run.output;
  const std::int64_t count = run.count;
  if (count < kLanes) {
    const Vec u = kRandom ? load_first(run.random, count) : Vec(0.0f);
    store_first(output, value.of(load_first(input, count), u), count);
    return;
  }
  const auto at = [&](std::int64_t i) {
    return value.of(load(input + i), kRandom ? load(run.random + i) : Vec(0.0f));
  };
  const bool odd = count % kLanes != 0;
  const Vec last = odd ? at(count - kLanes) : Vec(0.0f);
  std::int64_t i = 0;
  if constexpr (!kRandom) {
    for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
      prefetch(input + i + run.ahead);
      prefetch(input + i + run.ahead + 2 * kLanes);
      const Pair first = value.of(load_pair(input + i));
      const Pair second = value.of(load_pair(input + i + 2 * kLanes));
      store_pair<kStream>(output + i, first);
      store_pair<kStream>(output + i + 2 * kLanes, second);
    }
  }
  for (; i + kLanes <= count; i += kLanes) store<false>(output + i, at(i));
  if (odd) store<false>(output + count - kLanes, last);
}

// Whole blocks of whole pairs of vectors, which is what groups are in practice: nothing but
// arithmetic between one group and the next. Returns how many elements it did.
template <Rounding kRounding, bool kStream, class T>
STROP_INLINE std::int64_t quantize_groups(const RowRun<T>& row, const TileParams& params) {
  const std::int64_t block = row.steps.block;
  const T* input = row.input;
  T* output = row.output;
  std::int64_t done = 0;
  for (std::int64_t g = row.steps.first; done + block <= row.count; ++g, done += block) {
    const BlockValue<kRounding> value(params, g);
    for (std::int64_t i = 0; i < block; i += 2 * kLanes) {
      prefetch(input + row.ahead);
      store_pair<kStream>(output, value.of(load_pair(input)));
      input += 2 * kLanes;
      output += 2 * kLanes;
    }
  }
  return done;
}

STROP_INLINE bool pairs_fill(const BlockSteps& steps) {
  constexpr std::int64_t kLong = 16 * kLanes;  // beyond it a run's own loop does as well
  return steps.into == 0 && steps.block <= kLong && steps.block % (2 * kLanes) == 0;
}

// A row whose blocks are runs of some length, and their parameters usual ones.
template <Rounding kRounding, class T>
void quantize_blocks(const RowRun<T>& row, const TileParams& params) {
  RowRun<T> run = row;
  std::int64_t done = 0;
  if constexpr (kRounding != Rounding::kStochastic) {
    if (pairs_fill(row.steps)) {
      done = row.stream && aligned_for_stream(row.output)
                 ? quantize_groups<kRounding, true>(row, params)
                 : quantize_groups<kRounding, false>(row, params);
    }
  }
  std::int64_t block = row.steps.first + done / row.steps.block;
  std::int64_t left = row.count - done;
  run.input += done;
  run.output += done;
  run.count = row.steps.block - row.steps.into;
  for (; left > 0; ++block, left -= run.count, run.count = row.steps.block) {
    if (run.count > left) run.count = left;
    const BlockValue<kRounding> value(params, block);
    if (row.stream && aligned_for_stream(run.output)) {
      quantize_run<kRounding, true>(run, value);
    } else {
      quantize_run<kRounding, false>(run, value);
    }
    run.input += run.count;
    run.output += run.count;
    if constexpr (kRounding == Rounding::kStochastic) run.random += run.count;
  }
}

// A row whose every element has parameters of its own, by the formula as it stands.
template <Rounding kRounding, bool kFloatingZero, class T>
void quantize_elements(const RowRun<T>& row, const TileParams& params,
                       const CodeRange<float>& given) {
  constexpr bool kRandom = kRounding == Rounding::kStochastic;
  const CodeRange<Vec> range = {Vec(given.min), Vec(given.max)};
  const Vec zero(0.0f);
  const auto at = [&](std::int64_t i) {
    const QuantizeParams<Vec> p = {load(params.inverse + i), load(params.scale + i),
                                   load(params.zero_point + i)};
    return fake_quantize_value<kRounding, kFloatingZero>(load(row.input + i), p, range,
                                                         kRandom ? load(row.random + i) : zero);
  };
  std::int64_t i = 0;
  if (row.stream && aligned_for_stream(row.output)) {
    for (; i + kLanes <= row.count; i += kLanes) store<true>(row.output + i, at(i));
  } else {
    for (; i + kLanes <= row.count; i += kLanes) store<false>(row.output + i, at(i));
  }
  if (const std::int64_t rest = row.count - i; rest > 0) {
    const auto first = [&](const auto* from) { return load_first(from + i, rest); };
    const QuantizeParams<Vec> p = {first(params.inverse), first(params.scale),
                                   first(params.zero_point)};
    const Vec u = kRandom ? first(row.random) : zero;
    store_first(row.output + i,
                fake_quantize_value<kRounding, kFloatingZero>(first(row.input), p, range, u), rest);
  }
}

}  // namespace strop::cpu::STROP_ISA
