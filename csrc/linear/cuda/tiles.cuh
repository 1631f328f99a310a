#pragma once

// Products of packed weights with up to 16 rows of x by tensor cores: Note [Tiles on a GPU].

#include "linear/cuda/linear.cuh"

namespace strop::linear::cuda {

// Note [Tiles on a GPU]
// A thread block takes 16 rows of the weight, a warp each. The warps go along their rows as those
// of one row do (Note [Steps along a row]), but what a byte keeps is not multiplied: its eight
// columns, with their zeros, go to a tile in shared memory. When a word of all rows is there, the
// tile is multiplied, a warp with 64 of its 1024 columns, for which it reads x once for 16 rows. So
// the unpacking is done once however many rows x has, and a product of 256 weights with eight of
// them is one instruction of a warp. The warps' sums meet at the end, in their order.
//
// What was pruned is 0 in a tile, and 0 times Inf is NaN. A result that is not finite is therefore
// found again without tensor cores, as one row of x is; so is one of a weight that has no exact
// number of 16 bits, in whose place the tile has NaN.
//
// Tensor cores cut sums off where float32 rounds them, so that they add up 64 columns at most
// before float32 does.
//
// The 16 columns that an instruction multiplies may be any, if they are the same of both: a lane
// takes eight neighbours of 32, the first four for one instruction, the others for the next. Rows
// of a tile are 16 banks apart, as eight lanes that read at a time want them.
inline constexpr int kMinTileRows = 3;  // of x, from which on tiles are faster, by counts
inline constexpr int kTile = 16;        // rows of the weight
inline constexpr int kTileThreads = kTile * kWarp;
inline constexpr int kTileColumns = kWordColumns / kTile;  // that a warp multiplies
inline constexpr int kTileStride = kWordColumns + 32;
inline constexpr int kInputRows = 8;  // of x, to an instruction

template <class Weight, class T>
struct alignas(16) TileShared {
  typename Weight::Scratch scratch[kTile];
  float table[16];  // of a weight in codes
  union {
    T tile[kTile][kTileStride];
    float sums[kTile][kTile][2 * kInputRows];  // of warps, rows of the weight, of x
  };
};

// Eight neighbouring columns.
template <class T>
using Eight = Vector<T, 8>;

// Those of x from one on, of which `left` are there, or none; `vectors`: all rows are aligned.
template <class T>
__device__ __forceinline__ Eight<T> load_eight(const T* from, std::int64_t left, bool vectors) {
  if (vectors && left >= 8) return *reinterpret_cast<const Eight<T>*>(from);
  Eight<T> columns = {};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < left) columns.fill(i, from[i]);
  }
  return columns;
}

// A lane's sums: kEights times eight rows of x.
template <int kEights>
struct TileSums {
  float of[kEights][4] = {};

  __device__ __forceinline__ void add(const TileSums& more, float upper, float lower) {
#pragma unroll
    for (int j = 0; j < kEights; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        of[j][i] = __fmaf_rn(more.of[j][i], i < 2 ? upper : lower, of[j][i]);
      }
    }
  }
};

// What a kernel is given; Weight is what a row is read by.
template <class Weight>
struct TileTask {
  LinearRows rows;
  Weight weight;
  bool vectors;  // rows of x may be read 16 bytes at a time
};

// Adds the products of 32 columns of the tile, from `column` of the weight on.
template <class T, int kEights>
__device__ __forceinline__ void multiply_columns(const LinearRows& args, const T* tile,
                                                 bool vectors, std::int64_t column,
                                                 std::int64_t columns, TileSums<kEights>& sums) {
  const int group = lane_id() / 4, own = lane_id() % 4 * 8;
  const auto upper = *reinterpret_cast<const Eight<T>*>(tile + group * kTileStride + own);
  const auto lower = *reinterpret_cast<const Eight<T>*>(tile + (group + 8) * kTileStride + own);
#pragma unroll
  for (int j = 0; j < kEights; ++j) {
    const int m = j * kInputRows + group;
    const std::int64_t left = m < args.rows ? columns - column - own : 0;
    const T* const row = static_cast<const T*>(args.x) + m * args.x_stride;
    const Eight<T> x = load_eight(row + column + own, left, vectors);
#pragma unroll
    for (int s = 0; s < 4; s += 2) {
      const std::uint32_t a[4] = {upper.word[s], lower.word[s], upper.word[s + 1],
                                  lower.word[s + 1]};
      const std::uint32_t b[2] = {x.word[s], x.word[s + 1]};
      multiply_matrices<T>(a, b, sums.of[j]);
    }
  }
}

// Adds those of a warp's columns of a word that begins at a row's byte `begin`. `first`: of the
// tile's rows.
template <class Weight, class T, int kEights>
__device__ __forceinline__ void multiply_word(const TileTask<Weight>& task, const T* tile,
                                              std::int64_t first, int begin,
                                              TileSums<kEights>& sums) {
  const Weight& weight = task.weight;
  const int place = static_cast<int>(threadIdx.x) / kWarp * kTileColumns;
  const std::int64_t column = std::int64_t{begin} * 8 + place;
  TileSums<kEights> part;
#pragma unroll
  for (int half = 0; half < kTileColumns; half += 32) {
    if (column + half >= weight.columns()) break;
    multiply_columns(task.rows, tile + place + half, task.vectors, column + half, weight.columns(),
                     part);
    if (!weight.grouped()) continue;
    const std::int64_t row = first + lane_id() / 4;
    sums.add(part, weight.scale(row, column + half), weight.scale(row + 8, column + half));
    part = {};
  }
  if (!weight.grouped()) sums.add(part, 1, 1);
}

// The sums of all warps; lane m has that of its warp's row of the weight and row m of x.
template <class Shared, int kEights>
__device__ __forceinline__ float add_warps(Shared& shared, const TileSums<kEights>& sums) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int j = 0; j < kEights; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = lane_id() / 4 + (i < 2 ? 0 : 8);
      shared.sums[warp][row][j * kInputRows + lane_id() % 4 * 2 + i % 2] = sums.of[j][i];
    }
  }
  __syncthreads();
  float sum = 0;
  if (lane_id() < kEights * kInputRows) {
    for (int w = 0; w < kTile; ++w) sum += shared.sums[w][warp][lane_id()];
  }
  return sum;
}

// Sums of lanes that are not finite are found again, one row of x after the other.
template <class T, class Weight, class Shared>
__device__ __forceinline__ float finite_or_again(const TileTask<Weight>& task, Shared& shared,
                                                 std::int64_t row, float own) {
  const bool wanted = lane_id() < task.rows.rows;
  unsigned again = __ballot_sync(kAllLanes, wanted && !(own - own == 0));
  while (again != 0) {
    const int m = __ffs(static_cast<int>(again)) - 1;
    again &= again - 1;
    LinearRows one = task.rows;
    one.rows = 1;
    one.x = static_cast<const T*>(one.x) + m * one.x_stride;
    float sum[1] = {};
    task.weight.multiply_row(one, shared.table, shared.scratch[threadIdx.x / kWarp], row, sum,
                             task.vectors);
    for (int distance = 1; distance < kWarp; distance *= 2) {
      sum[0] += __shfl_xor_sync(kAllLanes, sum[0], distance);
    }
    if (lane_id() == m) own = sum[0];
  }
  return own;
}

template <class Weight, class T, int kEights>
__global__ void __launch_bounds__(kTileThreads, 2)
    tiles_kernel(const __grid_constant__ TileTask<Weight> task) {
  auto& shared = dynamic_shared<TileShared<Weight, T>>();
  const Weight& weight = task.weight;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  weight.fill(shared.table);
  const std::int64_t step = std::int64_t{gridDim.x} * kTile;
  for (std::int64_t first = std::int64_t{blockIdx.x} * kTile; first < weight.rows();
       first += step) {
    const std::int64_t last = weight.rows() - 1;  // in place of those beyond it
    const std::int64_t row = first + warp < last ? first + warp : last;
    TileSums<kEights> sums;
    __syncthreads();  // the table is there, and the sums before have been read
    weight.for_each_eight(
        row, shared.table, shared.scratch[warp],
        [&](int at, const Eight<T>& columns) {
          *reinterpret_cast<Eight<T>*>(&shared.tile[warp][at % kWordBytes * 8]) = columns;
        },
        [&](int begin) {
          __syncthreads();
          multiply_word(task, shared.tile[0], first, begin, sums);
          __syncthreads();
        });
    const float sum = weight.scaled(row, add_warps(shared, sums));
    const float own = finite_or_again<T>(task, shared, row, sum);
    if (first + warp < weight.rows() && lane_id() < task.rows.rows) {
      store_result(task.rows, lane_id(), row, own);
    }
  }
}

// x and what the weight becomes are of T.
template <class T, class Weight>
void multiply_tiles(const LinearRows& args, const Weight& weight, const Launch& on) {
  const bool vectors = rows_are_vectors(args.x, args.rows > 1 ? args.x_stride : 0, args.dtype);
  const std::int64_t blocks = (weight.rows() + kTile - 1) / kTile;
  const BlockShape shape = {kTileThreads, static_cast<int>(sizeof(TileShared<Weight, T>))};
  const TileTask<Weight> task = {args, weight, vectors};
  if (args.rows <= kInputRows) return launch(on, tiles_kernel<Weight, T, 1>, blocks, shape, task);
  launch(on, tiles_kernel<Weight, T, 2>, blocks, shape, task);
}

}  // namespace strop::linear::cuda
