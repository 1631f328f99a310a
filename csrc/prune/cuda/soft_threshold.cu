// soft_threshold and its gradient, on a GPU.

#include <algorithm>

#include "core/cuda/divider.cuh"
#include "core/cuda/launch.h"
#include "core/cuda/vector.cuh"
#include "prune/soft_threshold.h"

namespace strop::prune::cuda {
using namespace strop::cuda;
namespace {

constexpr int kThreads = 256;

std::int64_t blocks_for(std::int64_t threads) { return (threads + kThreads - 1) / kThreads; }

// The two formulas of prune/soft_threshold.h.
struct Shrink {
  static constexpr bool kGradient = false;
  template <class A>
  static __device__ __forceinline__ A of(A weight, A amount, A) {
    const A left = (weight < 0 ? -weight : weight) - amount;
    if (left <= 0 || weight == 0) return 0;
    return weight < 0 ? -left : left;
  }
};
struct Pass {
  static constexpr bool kGradient = true;
  template <class A>
  static __device__ __forceinline__ A of(A weight, A amount, A gradient) {
    return (weight < 0 ? -weight : weight) > amount ? gradient : 0;
  }
};

__device__ __forceinline__ SoftThresholdRow row_at(const SoftThresholdArgs& args,
                                                   std::int64_t row) {
  SoftThresholdRow at;
#pragma unroll 1
  for (int d = args.dims - 2; d >= 0; --d) {
    const SoftThresholdDim& dim = args.dim[d];
    const std::int64_t outer = quotient(row, dim.size);
    const std::int64_t i = row - outer * dim.size;
    row = outer;
    at.weight += i * dim.weight;
    at.output += i * dim.output;
    at.amount += i * dim.amount;
    at.gradient += i * dim.gradient;
  }
  return at;
}

// kVector neighbours of a row; the first `count` of them exist.
template <class T, int kVector>
__device__ __forceinline__ Vector<T, kVector> load(const T* from, std::int64_t step, int count) {
  if (kVector > 1 && count == kVector) return *reinterpret_cast<const Vector<T, kVector>*>(from);
  Vector<T, kVector> held = {};
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (i < count) held.fill(i, from[i * step]);
  }
  return held;
}

// A thread has kVector neighbours of a row at a time: of a step of 1 where those are several.
template <class Formula, class T, int kVector>
__global__ void __launch_bounds__(kThreads)
    soft_threshold_kernel(const __grid_constant__ SoftThresholdArgs args,
                          const __grid_constant__ Divider row_units, std::int64_t units) {
  using A = Arithmetic<T>;
  const SoftThresholdDim inner = args.inner();
  const auto* const amount = static_cast<const A*>(args.amount);
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t unit = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; unit < units;
       unit += step) {
    const std::int64_t number = row_units.quotient(unit);
    const std::int64_t first = (unit - number * row_units.divisor()) * kVector;
    const SoftThresholdRow row = row_at(args, number);
    const std::int64_t left = inner.size - first;
    const int count = left < kVector ? static_cast<int>(left) : kVector;
    const auto* const from = static_cast<const T*>(args.weight) + row.weight;
    const auto weight = load<T, kVector>(from + first * inner.weight, inner.weight, count);
    Vector<T, kVector> gradient = weight, result = {};
    if (Formula::kGradient) {
      const auto* const passing = static_cast<const T*>(args.gradient) + row.gradient;
      gradient = load<T, kVector>(passing + first * inner.gradient, inner.gradient, count);
    }
    A values[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const std::int64_t at = row.amount + (i < count ? first + i : first) * inner.amount;
      const A least = amount == nullptr ? static_cast<A>(args.number) : amount[at];
      values[i] = Formula::of(widened(weight.lane(i)), least, widened(gradient.lane(i)));
    }
    narrow<T, kVector>(values, result);
    T* const to = static_cast<T*>(args.output) + row.output + first * inner.output;
    if (kVector > 1 && count == kVector) {
      *reinterpret_cast<Vector<T, kVector>*>(to) = result;
      continue;
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (i < count) to[i * inner.output] = result.lane(i);
    }
  }
}

// Whether rows of a tensor may be read 16 bytes at a time.
template <class T>
bool rows_are_vectors(const SoftThresholdArgs& args, const void* tensor,
                      std::int64_t SoftThresholdDim::* step) {
  constexpr std::int64_t kVector = kVectorBytes / sizeof(T);
  if (tensor == nullptr) return true;
  if (args.inner().*step != 1) return false;
  if (reinterpret_cast<std::uintptr_t>(tensor) % kVectorBytes != 0) return false;
  return std::all_of(args.dim, args.dim + args.dims - 1,
                     [&](const SoftThresholdDim& dim) { return dim.*step % kVector == 0; });
}

template <class Formula, class T>
void run_as(const SoftThresholdArgs& args, const Launch& on) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  using Dim = SoftThresholdDim;
  const bool vectors = rows_are_vectors<T>(args, args.weight, &Dim::weight) &&
                       rows_are_vectors<T>(args, args.output, &Dim::output) &&
                       rows_are_vectors<T>(args, args.gradient, &Dim::gradient);
  const std::int64_t lanes = vectors ? kVector : 1, columns = args.inner().size;
  const Divider row_units((columns + lanes - 1) / lanes);
  const std::int64_t units = args.count() / columns * row_units.divisor();
  launch(
      on,
      vectors ? soft_threshold_kernel<Formula, T, kVector> : soft_threshold_kernel<Formula, T, 1>,
      blocks_for(units), kThreads, args, row_units, units);
}

template <class Formula>
void shrink(const SoftThresholdArgs& original, const Launch& on) {
  if (original.count() == 0) return;
  const SoftThresholdArgs args = simplified(original);
  switch (args.dtype) {
    case DType::kBFloat16:
      return run_as<Formula, BFloat16>(args, on);
    case DType::kFloat16:
      return run_as<Formula, Float16>(args, on);
    case DType::kFloat64:
      return run_as<Formula, double>(args, on);
    default:
      return run_as<Formula, float>(args, on);
  }
}

}  // namespace
}  // namespace strop::prune::cuda

namespace strop::prune {

void run(const SoftThresholdArgs& args, const Launch& on) { cuda::shrink<cuda::Shrink>(args, on); }
void run(const SoftThresholdGradientArgs& args, const Launch& on) {
  cuda::shrink<cuda::Pass>(args, on);
}

}  // namespace strop::prune
