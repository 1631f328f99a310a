#pragma once

// Extremes of blocks of many rows and few columns: a thread walks down its own columns.

#include "quantize/cuda/slab.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

inline constexpr int kColumnThreads = 256;

// The extremes of each lane of vectors, in pairs where they are.
template <class T, int kVector>
class LaneExtremes {
 public:
  // Lanes that are not there are 0, and so is what is found of them.
  __device__ __forceinline__ void take(const Vector<T, kVector>& x, bool symmetric) {
    using Words = Vector<T, kVector>;
    if constexpr (Words::kPaired) {
      const std::uint32_t kept = symmetric ? 0x7fff7fffu : 0xffffffffu;
      for (int i = 0; i < kVector / 2; ++i) {
        max_.word[i] = larger_pair<T>(max_.word[i], x.word[i] & kept);
        if (!symmetric) min_.word[i] = smaller_pair<T>(min_.word[i], x.word[i]);
      }
    } else {
      for (int i = 0; i < kVector; ++i) {
        max_.word[i] = larger(max_.word[i], symmetric ? magnitude(x.word[i]) : x.word[i]);
        if (!symmetric) min_.word[i] = smaller(min_.word[i], x.word[i]);
      }
    }
  }

  __device__ __forceinline__ Extremes<Arithmetic<T>> of(int lane) const {
    return {widened(min_.lane(lane)), widened(max_.lane(lane))};
  }

 private:
  Vector<T, kVector> min_ = {};
  Vector<T, kVector> max_ = {};
};

// The extremes of up to kVector columns, from the rows of a strip that are this warp's.
template <class T, int kVector>
__device__ __forceinline__ void walk_down(const Problem<Arithmetic<T>>& problem, const Strip& strip,
                                          LaneExtremes<T, kVector>& found) {
  constexpr int kAhead = 4, kWarps = kColumnThreads / kWarp;
  const std::int64_t column = strip.column + lane_id() * kVector;
  const std::int64_t end = strip.column + strip.columns;
  for (std::int64_t row = threadIdx.x / kWarp; row < strip.rows; row += kAhead * kWarps) {
    Piece<T, kVector> held[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t number = row + i * kWarps;
      if (number >= strip.rows || column >= end) continue;
      Place place = strip.row(problem.args, number);
      place.move_to(problem.inner(), column, problem.whole);
      held[i].load(problem, place, elements_left<kVector>(end - column));
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) found.take(held[i].x, problem.rule.symmetric);
  }
}

// Strips of a warp's width; into a table that is 0 before.
template <class T, int kVector>
__global__ void __launch_bounds__(kColumnThreads, 4)
    columns_kernel(const __grid_constant__ Problem<Arithmetic<T>> problem,
                   const __grid_constant__ KeyTable<Arithmetic<T>> keys,
                   const __grid_constant__ TileShape shape) {
  using A = Arithmetic<T>;
  constexpr int kColumns = kWarp * kVector;
  __shared__ Strip strip;
  __shared__ Key<A> min[kColumns];
  __shared__ Key<A> max[kColumns];
  const KeyTable<A> here = {min, max};
  for (std::int64_t number = blockIdx.x; number < shape.tiles; number += gridDim.x) {
    __syncthreads();  // the strip before is done with
    if (threadIdx.x == 0) strip.place(problem, shape, number);
    for (int i = static_cast<int>(threadIdx.x); i < kColumns; i += kColumnThreads) {
      min[i] = max[i] = 0;
    }
    __syncthreads();
    LaneExtremes<T, kVector> found;
    walk_down(problem, strip, found);
    for (int k = 0; k < kVector; ++k) {  // lane by lane: no two of a warp in one bank
      const Extremes<A> of_column = found.of(k);
      here.add(k * kWarp + lane_id(), key_of(of_column.min), key_of(of_column.max));
    }
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < strip.columns; i += kColumnThreads) {
      const int at = i % kVector * kWarp + i / kVector;
      const std::int64_t block = problem.block_of(strip.column + i);
      keys.add(strip.origin.scale + block * problem.inner().scale, min[at], max[at]);
    }
  }
}

}  // namespace strop::quantize::cuda
