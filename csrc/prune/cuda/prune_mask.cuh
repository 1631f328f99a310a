#pragma once

// The cut below which a number of weights lies, by a block of threads: see Note [Pruning order] in
// prune/prune_mask.h.

#include "core/cuda/scan.cuh"
#include "prune/prune_mask.h"

namespace strop::prune::cuda {
using namespace strop::cuda;

inline constexpr int kPruneThreads = 256;
inline constexpr int kPruneWarps = kPruneThreads / kWarp;
// Weights that a block works on at a time, and whose ties it counts.
inline constexpr std::int64_t kPrunePiece = 8192;

// What is known of a cut.
template <class Key>
struct Found {
  Key key;            // its digits so far
  std::int64_t rank;  // among the weights that agree in them; 0: the index is right
  std::int64_t index;
};

// Consecutive weights. `whole`: they may be read 16 bytes at a time.
template <class T>
struct Weights {
  const T* from;
  std::int64_t count;
  bool whole;
};

template <class Key, class T>
__device__ __forceinline__ Key key_at(T stored) {
  if constexpr (sizeof(Key) == 8) {
    return wide_magnitude_key(widened(stored));
  } else {
    return magnitude_key(static_cast<float>(widened(stored)));
  }
}

// Calls visit(index, key) for the weights of [begin, end), which a block's threads share.
template <class Key, class T, class Visit>
__device__ __forceinline__ void for_each_key(const Weights<T>& weights, std::int64_t begin,
                                             std::int64_t end, Visit visit) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  for (std::int64_t at = begin + std::int64_t{threadIdx.x} * kVector; at < end;
       at += std::int64_t{kPruneThreads} * kVector) {
    if (weights.whole && at + kVector <= end) {
      const auto held = *reinterpret_cast<const Vector<T, kVector>*>(weights.from + at);
#pragma unroll
      for (int i = 0; i < kVector; ++i) visit(at + i, key_at<Key>(held.lane(i)));
    } else {
      for (int i = 0; i < kVector && at + i < end; ++i) {
        visit(at + i, key_at<Key>(weights.from[at + i]));
      }
    }
  }
}

// What a block's threads share in a search.
struct SearchScratch {
  std::int64_t warps[kPruneWarps];
  std::int64_t rank;
  std::int64_t place;
};

// The digit in which a rank falls, which becomes one among that digit's.
template <class Count>
__device__ __forceinline__ unsigned pick_digit(const Count* table, std::int64_t& rank,
                                               SearchScratch& scratch) {
  constexpr int kEach = kDigits / kPruneThreads;
  const Count* const own = table + threadIdx.x * kEach;
  std::int64_t sum = 0, all = 0;
  for (int i = 0; i < kEach; ++i) sum += static_cast<std::int64_t>(own[i]);
  std::int64_t left = rank - sum_before(sum, scratch.warps, all);
  if (left >= 0 && left < sum) {
    int i = 0;
    for (; left >= static_cast<std::int64_t>(own[i]); ++i)
      left -= static_cast<std::int64_t>(own[i]);
    scratch.rank = left;
    scratch.place = threadIdx.x * kEach + i;
  }
  __syncthreads();
  rank = scratch.rank;
  return static_cast<unsigned>(scratch.place);
}

// The index of the weight of [begin, end) that has `rank` others of its key before it there.
template <class Key, class T>
__device__ __forceinline__ std::int64_t place_of(const Weights<T>& weights, std::int64_t begin,
                                                 std::int64_t end, Key key, std::int64_t rank,
                                                 SearchScratch& scratch) {
  for (std::int64_t first = begin; first < end; first += kPruneThreads) {
    const std::int64_t at = first + threadIdx.x;
    const bool tie = at < end && key_at<Key>(weights.from[at]) == key;
    std::int64_t all = 0;
    const std::int64_t before = sum_before(tie ? 1 : 0, scratch.warps, all);
    if (tie && before == rank) scratch.place = at;
    if (rank < all) break;
    rank -= all;
  }
  __syncthreads();
  return scratch.place;
}

template <class Key>
__device__ __forceinline__ bool stays(Key key, std::int64_t index, const Cut<Key>& cut) {
  return key > cut.key || (key == cut.key && index >= cut.index);
}

}  // namespace strop::prune::cuda
