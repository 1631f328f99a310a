#pragma once

// Runs of learned_gradient, for the one source that is compiled once per instruction set: the terms
// of a run's elements and their sums.

#include "quantize/gradient.h"
#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Consecutive elements of a row; the terms of narrow blocks are kept one by one.
template <class T>
struct LearnedRun {
  const T* input;
  const T* gradient;
  T* output;
  const float* random;
  std::int64_t count;
  bool stream;
};

struct RunSums {
  float scale;
  float zero_point;
};

struct TermBuffers {
  float scale[kRunColumns];
  float zero_point[kRunColumns];
};

template <class V>
STROP_INLINE float folded(V v) {
  constexpr int kCount = sizeof(V) / sizeof(float);
  if constexpr (kCount == 16) {
    return folded(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                  __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  } else if constexpr (kCount == 8) {
    return folded(__builtin_shufflevector(v, v, 0, 1, 2, 3) +
                  __builtin_shufflevector(v, v, 4, 5, 6, 7));
  } else {
    return (v[0] + v[2]) + (v[1] + v[3]);
  }
}

// Sixteen sums to one, in halves: see Note [Order of sums].
template <int kVectors>
STROP_INLINE float sum_of_lanes(const Vec (&sums)[kVectors]) {
  Vec left[kVectors];
  for (int i = 0; i < kVectors; ++i) left[i] = sums[i];
  for (int half = kVectors / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) left[i] = left[i] + left[i + half];
  }
  return folded(left[0].v);
}

// Lanes from `count` on become 0.
STROP_INLINE Vec only_first(Vec a, std::int64_t count) {
  float lanes[kLanes];
  store<false>(lanes, a);
  return load_first(lanes, count);
}

// A full vector's terms; writes the gradient of the input.
template <bool kStream, class Codec, class T>
STROP_INLINE LearnedTerms<Vec> terms_at(const LearnedRun<T>& run, std::int64_t i,
                                        const QuantizeParams<Vec>& params, const Codec& codec) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const LearnedTerms<Vec> terms = codec.terms(load(run.input + i), load(run.gradient + i), params,
                                              kRandom ? load(run.random + i) : Vec(0.0f));
  store<kStream>(run.output + i, terms.input);
  return terms;
}

// The same of a run's last elements, fewer than a vector has.
template <class Codec, class T>
STROP_INLINE LearnedTerms<Vec> last_terms(const LearnedRun<T>& run, std::int64_t i,
                                          const QuantizeParams<Vec>& params, const Codec& codec) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const std::int64_t count = run.count - i;
  LearnedTerms<Vec> terms =
      codec.terms(load_first(run.input + i, count), load_first(run.gradient + i, count), params,
                  kRandom ? load_first(run.random + i, count) : Vec(0.0f));
  store_first(run.output + i, terms.input, count);
  terms.scale = only_first(terms.scale, count);
  terms.zero_point = only_first(terms.zero_point, count);
  return terms;
}

// Elements that are asked for ahead of the arithmetic: halves the time of an input beyond the
// cache.
inline constexpr std::int64_t kAhead = 2048;

inline constexpr int kRunVectors = kRunLanes / kLanes;

// Sums of terms, lane by lane. That of a zero point that is not learned is left 0.
template <class Codec>
struct LaneSums {
  Vec scale[kRunVectors];
  Vec zero_point[kRunVectors];

  STROP_MEMBER LaneSums() {
    for (int v = 0; v < kRunVectors; ++v) scale[v] = zero_point[v] = Vec(0.0f);
  }
  STROP_MEMBER void add(int v, const LearnedTerms<Vec>& terms) {
    scale[v] = scale[v] + terms.scale;
    if constexpr (Codec::kHasZeroPoint) zero_point[v] = zero_point[v] + terms.zero_point;
  }
};

// kRunLanes elements of a run at a time. Returns how many elements it did.
template <bool kStream, class Codec, class T>
STROP_INLINE std::int64_t add_lanes(const LearnedRun<T>& run, const QuantizeParams<Vec>& params,
                                    const Codec& codec, LaneSums<Codec>& sums) {
  std::int64_t i = 0;
  for (; i + kRunLanes <= run.count; i += kRunLanes) {
    prefetch(run.input + i + kAhead);
    prefetch(run.gradient + i + kAhead);
    for (int v = 0; v < kRunVectors; ++v) {
      sums.add(v, terms_at<kStream>(run, i + v * kLanes, params, codec));
    }
  }
  return i;
}

// A run of one block.
template <class Codec, class T>
STROP_INLINE RunSums learned_run(const LearnedRun<T>& run, const QuantizeParams<Vec>& params,
                                 const Codec& codec) {
  LaneSums<Codec> sums;
  std::int64_t i = run.stream && aligned_for_stream(run.output)
                       ? add_lanes<true>(run, params, codec, sums)
                       : add_lanes<false>(run, params, codec, sums);
  for (int v = 0; v < kRunVectors && i < run.count; ++v, i += kLanes) {
    sums.add(v, run.count - i >= kLanes ? terms_at<false>(run, i, params, codec)
                                        : last_terms(run, i, params, codec));
  }
  return {sum_of_lanes(sums.scale), Codec::kHasZeroPoint ? sum_of_lanes(sums.zero_point) : 0.0f};
}

// Where a row's blocks add their sums up.
struct BlockSums {
  double* scale;
  double* zero_point;
};

// Consecutive blocks of a row, each in runs.
template <class Codec, class T>
void learned_blocks(const LearnedRun<T>& row, const BlockSteps& steps, const TileParams& params,
                    const QuantizeRule& rule, const BlockSums& sums) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const Codec codec(rule);
  std::int64_t end = steps.block - steps.into;
  for (std::int64_t i = 0, block = steps.first; i < row.count; ++block, end += steps.block) {
    const QuantizeParams<Vec> of = {Vec(params.inverse[block]), Vec(params.scale[block]),
                                    Vec(params.zero_point[block])};
    const std::int64_t stop = end < row.count ? end : row.count;
    for (; i < stop; i += kRunColumns) {
      const std::int64_t count = stop - i < kRunColumns ? stop - i : kRunColumns;
      const LearnedRun<T> run = {row.input + i,  row.gradient + i,
                                 row.output + i, kRandom ? row.random + i : nullptr,
                                 count,          row.stream};
      const RunSums found = learned_run(run, of, codec);
      sums.scale[block] += static_cast<double>(found.scale);
      if constexpr (Codec::kHasZeroPoint) {
        sums.zero_point[block] += static_cast<double>(found.zero_point);
      }
    }
    i = stop;
  }
}

// Elements with parameters of their own.
template <class Codec, class T>
void learned_elements(const LearnedRun<T>& run, const TileParams& params, const QuantizeRule& rule,
                      TermBuffers& terms) {
  const Codec codec(rule);
  for (std::int64_t i = 0; i < run.count; i += kLanes) {
    const QuantizeParams<Vec> p = {load(params.inverse + i), load(params.scale + i),
                                   load(params.zero_point + i)};
    const auto found =
        run.count - i >= kLanes ? terms_at<false>(run, i, p, codec) : last_terms(run, i, p, codec);
    store<false>(terms.scale + i, found.scale);
    store<false>(terms.zero_point + i, found.zero_point);
  }
}

// The rows of one format and rounding.
template <class T>
struct LearnedRows {
  void (*blocks)(const LearnedRun<T>&, const BlockSteps&, const TileParams&, const QuantizeRule&,
                 const BlockSums&);
  void (*elements)(const LearnedRun<T>&, const TileParams&, const QuantizeRule&, TermBuffers&);
};

template <class T, class Codec>
constexpr LearnedRows<T> kLearnedRowsOf = {learned_blocks<Codec, T>, learned_elements<Codec, T>};

// Each in a source of its own.
template <class T>
const LearnedRows<T>& learned_integer_rows(Rounding rounding, bool floating_zero);
template <class T>
const LearnedRows<T>& learned_float_rows(Rounding rounding);
template <class T>
const LearnedRows<T>& learned_nf4_rows();

}  // namespace strop::quantize::simd::STROP_ISA
