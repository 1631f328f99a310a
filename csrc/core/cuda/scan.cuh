#pragma once

// Sums of what threads have, and of what those before each of them have.

#include "core/cuda/vector.cuh"

namespace strop::cuda {

// Of a warp's lanes before this one. Unsigned words may hold several sums, if none overflows.
template <class T>
__device__ __forceinline__ T sum_of_lanes_before(T own) {
  T before = __shfl_up_sync(kAllLanes, own, 1);
  if (lane_id() == 0) before = 0;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const T other = __shfl_up_sync(kAllLanes, before, distance);
    if (lane_id() >= distance) before += other;
  }
  return before;
}

// Of a block's threads before this one, and of all of them; `warps` is shared by the block.
template <int kWarps>
__device__ __forceinline__ std::int64_t sum_before(std::int64_t own, std::int64_t (&warps)[kWarps],
                                                   std::int64_t& all) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  std::int64_t before = sum_of_lanes_before(own);
  __syncthreads();  // what was there has been read
  if (lane_id() == kWarp - 1) warps[warp] = before + own;
  __syncthreads();
  all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += warps[w];
    all += warps[w];
  }
  return before;
}

}  // namespace strop::cuda
