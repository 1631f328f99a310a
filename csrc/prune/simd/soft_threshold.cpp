// The kernels of soft_threshold, compiled once per instruction set (STROP_ISA).

#include "core/simd/vector.h"
#include "prune/kernels.h"

namespace strop::prune::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

void soft_threshold(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end);
void soft_threshold_gradient(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end);

namespace {

// The two formulas of prune/soft_threshold.h.
struct Shrink {
  static constexpr bool kGradient = false;
  STROP_INLINE Vec of(Vec weight, Vec amount, Vec) {
    const Vec left = magnitude(weight) - amount;
    const Vec zero(0.0f);
    const I32 vanishes = I32(left.v <= zero.v) | eq(weight, zero);
    return select(vanishes, zero, set_sign(left, weight));
  }
};
struct Pass {
  static constexpr bool kGradient = true;
  STROP_INLINE Vec of(Vec weight, Vec amount, Vec gradient) {
    return select(lt(amount, magnitude(weight)), gradient, Vec(0.0f));
  }
};

// A piece of a row.
template <class T>
struct Run {
  const T* weight;
  const float* amount;
  const T* gradient;
  T* output;
  std::int64_t count;
  SoftThresholdDim step;
};

// NaN as arithmetic makes it: store_pair rounds no other.
STROP_INLINE float plain(float amount) {
  return amount == amount ? amount : bits_float(0x7fc00000u);
}

// Elements wherever they are, kLanes at a time.
template <class Formula, class T>
STROP_INLINE void by_lanes(const Run<T>& run, std::int64_t from) {
  for (std::int64_t i = from; i < run.count; i += kLanes) {
    const int lanes = static_cast<int>(run.count - i < kLanes ? run.count - i : kLanes);
    T weight[kLanes] = {}, gradient[kLanes] = {}, output[kLanes];
    float amount[kLanes] = {};
    for (int lane = 0; lane < lanes; ++lane) {
      const std::int64_t at = i + lane;
      weight[lane] = run.weight[at * run.step.weight];
      amount[lane] = plain(run.amount[at * run.step.amount]);
      if (Formula::kGradient) gradient[lane] = run.gradient[at * run.step.gradient];
    }
    store<false>(output, Formula::of(load(weight), load(amount), load(gradient)));
    for (int lane = 0; lane < lanes; ++lane)
      run.output[(i + lane) * run.step.output] = output[lane];
  }
}

// Neighbours that share an amount; how many of them are done.
template <class Formula, bool kStream, class T>
STROP_INLINE std::int64_t by_pairs(const Run<T>& run) {
  const Vec amount(plain(*run.amount));
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= run.count; i += 2 * kLanes) {
    const Pair weight = load_pair(run.weight + i);
    const Pair gradient = Formula::kGradient ? load_pair(run.gradient + i) : weight;
    const Pair result = {Formula::of(weight.a, amount, gradient.a),
                         Formula::of(weight.b, amount, gradient.b)};
    store_pair<kStream>(run.output + i, result);
  }
  return i;
}

// Neighbours that have an amount each.
template <class Formula, bool kStream, class T>
STROP_INLINE std::int64_t by_vectors(const Run<T>& run) {
  std::int64_t i = 0;
  for (; i + kLanes <= run.count; i += kLanes) {
    const Vec weight = load(run.weight + i);
    const Vec gradient = Formula::kGradient ? load(run.gradient + i) : weight;
    store<kStream>(run.output + i, Formula::of(weight, load(run.amount + i), gradient));
  }
  return i;
}

template <class Formula, bool kStream, class T>
void run_neighbours(const Run<T>& run) {
  std::int64_t done = 0;
  if (run.step.amount == 0) done = by_pairs<Formula, kStream>(run);
  if (run.step.amount == 1) done = by_vectors<Formula, kStream>(run);
  by_lanes<Formula>(run, done);
}

template <class Formula, class T>
void run_piece(Run<T> run, bool stream) {
  const SoftThresholdDim& step = run.step;
  const bool neighbours = step.weight == 1 && step.output == 1 && step.amount <= 1 &&
                          step.amount >= 0 && (!Formula::kGradient || step.gradient == 1);
  if (!neighbours) return by_lanes<Formula>(run, 0);
  if (!stream || run.count < 4 * kLanes) return run_neighbours<Formula, false>(run);
  // The first few, up to where a vector's stores are aligned.
  Run<T> head = run;
  head.count = 0;
  while (!aligned_for_stream(run.output + head.count) && head.count < 2 * kLanes) ++head.count;
  run_neighbours<Formula, false>(head);
  run.weight += head.count;
  run.amount += head.count * step.amount;
  run.gradient += Formula::kGradient ? head.count : 0;
  run.output += head.count;
  run.count -= head.count;
  if (!aligned_for_stream(run.output)) return run_neighbours<Formula, false>(run);
  run_neighbours<Formula, true>(run);
}

template <class Formula, class T>
void run_pieces(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end) {
  const SoftThresholdArgs& args = task.args;
  const SoftThresholdDim& inner = args.inner();
  for (std::int64_t number = begin; number < end; ++number) {
    const SoftThresholdRow row = task.row_at(number / task.row_pieces);
    const std::int64_t first = number % task.row_pieces * kPrunePiece;
    const std::int64_t left = inner.size - first;
    const auto* gradient = static_cast<const T*>(args.gradient);
    if (Formula::kGradient) gradient += row.gradient + first * inner.gradient;
    run_piece<Formula, T>(
        {.weight = static_cast<const T*>(args.weight) + row.weight + first * inner.weight,
         .amount = static_cast<const float*>(args.amount) + row.amount + first * inner.amount,
         .gradient = gradient,
         .output = static_cast<T*>(args.output) + row.output + first * inner.output,
         .count = left < kPrunePiece ? left : kPrunePiece,
         .step = inner},
        task.stream);
  }
  if (task.stream) stream_fence();
}

template <class Formula>
void run_dtype(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end) {
  switch (task.args.dtype) {
    case DType::kBFloat16:
      return run_pieces<Formula, BFloat16>(task, begin, end);
    case DType::kFloat16:
      return run_pieces<Formula, Float16>(task, begin, end);
    default:
      return run_pieces<Formula, float>(task, begin, end);
  }
}

}  // namespace

void soft_threshold(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end) {
  run_dtype<Shrink>(task, begin, end);
}

void soft_threshold_gradient(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end) {
  run_dtype<Pass>(task, begin, end);
}

}  // namespace strop::prune::simd::STROP_ISA
