#pragma once

// Patterns of pruning: n of every m neighbours, and blocks; with the host's part.

#include "core/cuda/divider.cuh"
#include "core/cuda/launch.h"
#include "prune/cuda/prune_mask.cuh"

namespace strop::prune::cuda {
using namespace strop::cuda;

// Memory that is shared out in order; or, without any, how much of it would be.
class Scratch {
 public:
  explicit Scratch(void* memory, bool measures)
      : memory_(static_cast<char*>(memory)), measures_(measures) {}

  bool measures() const { return measures_; }
  std::size_t used() const { return used_; }

  template <class T>
  T* take(std::int64_t count) {
    constexpr std::size_t kAlignment = 16;
    char* const here = measures_ ? nullptr : memory_ + used_;
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(here);
  }

 private:
  char* memory_;
  bool measures_;
  std::size_t used_ = 0;
};

// A thread has a group: a member stays if fewer than `keep` others are larger, or equal and later.
// kGroup: the size of every group, all of them read at a time; 0: any.
template <class Key, class T, int kGroup>
__global__ void __launch_bounds__(kPruneThreads)
    keep_groups_kernel(const T* weight, std::uint8_t* mask, const PruneTensor shape,
                       std::int64_t keep, std::int64_t group, const Divider row_groups) {
  const std::int64_t groups = shape.matrices * shape.rows * row_groups.divisor();
  const std::int64_t step = std::int64_t{gridDim.x} * kPruneThreads;
  for (std::int64_t number = std::int64_t{blockIdx.x} * kPruneThreads + threadIdx.x;
       number < groups; number += step) {
    if constexpr (kGroup > 0) {
      const auto held = reinterpret_cast<const Vector<T, kGroup>*>(weight)[number];
      Key keys[kGroup];
#pragma unroll
      for (int i = 0; i < kGroup; ++i) keys[i] = key_at<Key>(held.lane(i));
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        int larger = 0;
#pragma unroll
        for (int j = 0; j < kGroup; ++j) larger += j > i ? keys[j] >= keys[i] : keys[j] > keys[i];
        mask[number * kGroup + i] = larger < keep ? 1 : 0;
      }
    } else {
      const std::int64_t row = row_groups.quotient(number);
      const std::int64_t first = (number - row * row_groups.divisor()) * group;
      const std::int64_t left = shape.columns - first;
      const std::int64_t count = left < group ? left : group;
      const std::int64_t at = row * shape.columns + first;
      for (std::int64_t i = 0; i < count; ++i) {
        const Key own = key_at<Key>(weight[at + i]);
        std::int64_t larger = 0;
        for (std::int64_t j = 0; j < count; ++j) {
          const Key other = key_at<Key>(weight[at + j]);
          larger += other > own || (other == own && j > i) ? 1 : 0;
        }
        mask[at + i] = larger < keep ? 1 : 0;
      }
    }
  }
}

template <class T>
void keep_groups(const PruneTensor& tensor, const PruneRule& rule, const Launch& on) {
  using Key = std::conditional_t<sizeof(T) == 8, std::uint64_t, std::uint32_t>;
  const Divider row_groups((tensor.columns + rule.group - 1) / rule.group);
  const std::int64_t groups = tensor.matrices * tensor.rows * row_groups.divisor();
  const std::int64_t blocks = (groups + kPruneThreads - 1) / kPruneThreads;
  const auto run = [&](auto kernel) {
    launch(on, kernel, blocks, kPruneThreads, static_cast<const T*>(tensor.weight), tensor.mask,
           tensor, rule.keep, rule.group, row_groups);
  };
  const auto fits = [&](int size) {
    const auto bytes = static_cast<std::uintptr_t>(size) * sizeof(T);
    return rule.group == size && tensor.columns % size == 0 &&
           reinterpret_cast<std::uintptr_t>(tensor.weight) % bytes == 0;
  };
  if (fits(2)) return run(keep_groups_kernel<Key, T, 2>);
  if (fits(4)) return run(keep_groups_kernel<Key, T, 4>);
  if (fits(8)) return run(keep_groups_kernel<Key, T, 8>);
  run(keep_groups_kernel<Key, T, 0>);
}

// The sums of blocks' columns. Neighbouring threads have neighbouring columns.
template <class T>
__global__ void __launch_bounds__(kPruneThreads)
    sum_columns_kernel(const T* weight, double* sums, const PruneTensor shape, const PruneRule rule,
                       std::int64_t grid_rows) {
  const std::int64_t all = shape.matrices * grid_rows * shape.columns;
  const std::int64_t step = std::int64_t{gridDim.x} * kPruneThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kPruneThreads + threadIdx.x; i < all;
       i += step) {
    const std::int64_t block_row = quotient(i, shape.columns);
    const std::int64_t matrix = quotient(block_row, grid_rows);
    const std::int64_t top = (block_row - matrix * grid_rows) * rule.block_rows;
    const std::int64_t left = shape.rows - top;
    const std::int64_t rows = left < rule.block_rows ? left : rule.block_rows;
    const T* const from =
        weight + (matrix * shape.rows + top) * shape.columns + i - block_row * shape.columns;
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      sum += block_term(widened(from[r * shape.columns]), rule.norm);
    }
    sums[i] = sum;
  }
}

// A thread has a block.
static __global__ void __launch_bounds__(kPruneThreads)
    score_kernel(const double* sums, float* scores, const PruneTensor shape, const PruneRule rule,
                 const BlockGrid grid) {
  const std::int64_t all = shape.matrices * grid.rows * grid.columns;
  const std::int64_t step = std::int64_t{gridDim.x} * kPruneThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kPruneThreads + threadIdx.x; i < all;
       i += step) {
    const std::int64_t block_row = quotient(i, grid.columns);
    const std::int64_t matrix = quotient(block_row, grid.rows);
    const std::int64_t left_rows = shape.rows - (block_row - matrix * grid.rows) * rule.block_rows;
    const std::int64_t rows = left_rows < rule.block_rows ? left_rows : rule.block_rows;
    const std::int64_t first = (i - block_row * grid.columns) * rule.block_columns;
    const std::int64_t left = shape.columns - first;
    const std::int64_t columns = left < rule.block_columns ? left : rule.block_columns;
    double sum = 0;
    for (std::int64_t c = 0; c < columns; ++c) sum += sums[block_row * shape.columns + first + c];
    scores[i] = block_score(sum, rows * columns, rule.norm);
  }
}

static __global__ void __launch_bounds__(kPruneThreads)
    expand_kernel(const std::uint8_t* kept, std::uint8_t* mask, const PruneTensor shape,
                  const PruneRule rule, const BlockGrid grid) {
  const std::int64_t all = shape.count();
  const std::int64_t step = std::int64_t{gridDim.x} * kPruneThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kPruneThreads + threadIdx.x; i < all;
       i += step) {
    const std::int64_t row = quotient(i, shape.columns);
    const std::int64_t matrix = quotient(row, shape.rows);
    const std::int64_t block_row =
        matrix * grid.rows + quotient(row - matrix * shape.rows, rule.block_rows);
    const std::int64_t block = quotient(i - row * shape.columns, rule.block_columns);
    mask[i] = kept[block_row * grid.columns + block];
  }
}

inline std::int64_t prune_blocks_for(std::int64_t threads) {
  return (threads + kPruneThreads - 1) / kPruneThreads;
}

template <class T>
void score_blocks(const PruneTensor& tensor, const PruneRule& rule, double* sums, float* scores,
                  const Launch& on) {
  const BlockGrid grid(tensor, rule);
  const std::int64_t rows = tensor.matrices * grid.rows;
  launch(on, sum_columns_kernel<T>, prune_blocks_for(rows * tensor.columns), kPruneThreads,
         static_cast<const T*>(tensor.weight), sums, tensor, rule, grid.rows);
  launch(on, score_kernel, prune_blocks_for(rows * grid.columns), kPruneThreads,
         static_cast<const double*>(sums), scores, tensor, rule, grid);
}

inline void expand_blocks(const PruneTensor& tensor, const PruneRule& rule,
                          const std::uint8_t* kept, const Launch& on) {
  launch(on, expand_kernel, prune_blocks_for(tensor.count()), kPruneThreads, kept, tensor.mask,
         tensor, rule, BlockGrid(tensor, rule));
}

}  // namespace strop::prune::cuda
