#pragma once

// How kernels read a weight in codes: Note [Codes on a GPU].

#include "core/cuda/divider.cuh"
#include "core/cuda/launch.h"
#include "linear/cuda/decode.cuh"
#include "linear/cuda/rows.cuh"
#include "linear/packed_codes.h"
#include "quantize/cuda/fake_quantize.cuh"

namespace strop::linear::cuda {
using namespace strop::cuda;

inline constexpr int kCodesThreads = 128;
inline constexpr int kCodesWarps = kCodesThreads / kWarp;
inline constexpr int kWeightRows = 4;  // of a thread block, at a time

// Up to eight codes side by side, `size` bits in all, from a row's bit `first` on.
__device__ __forceinline__ std::uint64_t load_codes(const std::uint8_t* row, std::int64_t first,
                                                    int size) {
  const std::uint8_t* const from = row + (first >> 3);
  const int shift = static_cast<int>(first & 7);
  const auto address = reinterpret_cast<std::uintptr_t>(from);
  const int bytes = (shift + size + 7) / 8;
  std::uint64_t word = 0;
  if ((address | static_cast<std::uintptr_t>(bytes)) % 2 == 0) {
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
      if (i < bytes) {
        word |= std::uint64_t{*reinterpret_cast<const std::uint16_t*>(from + i)} << (8 * i);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < bytes) word |= std::uint64_t{from[i]} << (8 * i);
    }
  }
  return size == 64 ? word : word >> shift & ((std::uint64_t{1} << size) - 1);
}

// Pieces of a row, as a kernel numbers them.
struct PiecesOnGpu {
  Pieces pieces;
  Divider of_group;
  std::int64_t groups;
  std::int64_t all;

  explicit PiecesOnGpu(const Pieces& given)
      : pieces(given), of_group(given.of_group()), groups(given.groups()), all(given.all()) {}

  struct Place {
    std::int64_t group;
    std::int64_t column;
    std::int64_t count;  // of columns; not above 0 where a short group has no such piece
  };
  __device__ __forceinline__ Place place(std::int64_t group, std::int64_t number) const {
    const std::int64_t within = number * pieces.width;
    const std::int64_t column = group * pieces.group + within;
    std::int64_t count =
        pieces.group - within < pieces.width ? pieces.group - within : pieces.width;
    if (pieces.columns - column < count) count = pieces.columns - column;
    return {group, column, count};
  }
  __device__ __forceinline__ Place place(std::int64_t piece) const {
    const std::int64_t group = of_group.quotient(piece);
    return place(group, piece - group * of_group.divisor());
  }
};

// Where a group's scale and zero point are.
struct Parameters {
  std::int64_t scale;
  std::int64_t zero_point;
};

// kWeightRows rows; in place of those beyond the last one there is that again.
struct RowsOfBlock {
  const std::uint8_t* codes;  // of the first
  Parameters first;           // of its first group
  int row[kWeightRows];       // from the first on
  int block[kWeightRows];     // of rows, likewise
};

struct CodesMatrixOnGpu {
  const std::uint8_t* codes;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t row_bytes;
  int bits;
  bool whole;  // units of four or eight bits are read by one load
  ScaleKind scales;
  DType zero_point_dtype;
  const void* scale;
  const float* tensor_scale;
  const void* zero_point;
  Divider block_rows;
  Parameters row_step;    // from a row of blocks to the next
  Parameters group_step;  // from a group to the next

  explicit CodesMatrixOnGpu(const PackedCodes& weight);

  __device__ __forceinline__ Parameters parameters(std::int64_t row, std::int64_t group) const {
    const std::int64_t block = block_rows.quotient(row);
    return {block * row_step.scale + group * group_step.scale,
            block * row_step.zero_point + group * group_step.zero_point};
  }
  __device__ __forceinline__ float scale_at(const Parameters& at) const {
    if (scales == ScaleKind::kAny) return static_cast<const float*>(scale)[at.scale];
    const std::uint8_t byte = static_cast<const std::uint8_t*>(scale)[at.scale];
    if (scales == ScaleKind::kPowerOfTwo) return quantize::power_from_byte(byte);
    return *tensor_scale * quantize::block_scale_from_byte(byte);
  }
  __device__ __forceinline__ float zero_at(const Parameters& at) const {
    if (zero_point == nullptr) return 0;
    if (zero_point_dtype == DType::kInt32) {
      return static_cast<float>(static_cast<const std::int32_t*>(zero_point)[at.zero_point]);
    }
    return quantize::cuda::read_zero_point<float>(zero_point, zero_point_dtype, at.zero_point);
  }
  __device__ __forceinline__ RowsOfBlock rows_from(std::int64_t first) const {
    RowsOfBlock block = {codes + first * row_bytes, parameters(first, 0), {}, {}};
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      block.row[r] = first + r < rows ? r : static_cast<int>(rows - 1 - first);
      block.block[r] =
          static_cast<int>(block_rows.quotient(first + block.row[r]) - block_rows.quotient(first));
    }
    return block;
  }
  // Of row number r.
  __device__ __forceinline__ Parameters parameters(const RowsOfBlock& block, int r,
                                                   std::int64_t group) const {
    return {block.first.scale + block.block[r] * row_step.scale + group * group_step.scale,
            block.first.zero_point + block.block[r] * row_step.zero_point +
                group * group_step.zero_point};
  }
  // Up to kUnit codes from a column on.
  __device__ __forceinline__ std::uint64_t load(const RowsOfBlock& block, int r,
                                                std::int64_t column, std::int64_t count) const {
    const std::uint8_t* const row = block.codes + block.row[r] * row_bytes;
    if (whole && count >= kUnit) {
      const std::uint8_t* const from = row + column / kUnit * bits;
      if (bits == 4) return *reinterpret_cast<const std::uint32_t*>(from);
      return *reinterpret_cast<const std::uint64_t*>(from);
    }
    return load_codes(row, column * bits, static_cast<int>(count < kUnit ? count : kUnit) * bits);
  }
  // A piece of every row, all of whose loads are on their way together.
  template <int kUnits>
  __device__ __forceinline__ void load(const RowsOfBlock& block, const PiecesOnGpu::Place& at,
                                       std::uint64_t (&held)[kUnits][kWeightRows]) const {
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      const std::int64_t left = at.count - u * kUnit;
#pragma unroll
      for (int r = 0; r < kWeightRows; ++r) {
        held[u][r] = left > 0 ? load(block, r, at.column + u * kUnit, left) : 0;
      }
    }
  }
};

// Sums of all lanes: those of number lane * kCount / kWarp are left in the first. At each distance
// a lane keeps a half of its numbers, while there are several.
template <int kCount, int kDistance = kWarp / 2, class T>
__device__ __forceinline__ void add_lanes(T (&sums)[kCount]) {
  if constexpr (kCount == 1) {
    for (int distance = kDistance; distance > 0; distance /= 2) {
      sums[0] += __shfl_xor_sync(kAllLanes, sums[0], distance);
    }
  } else {
    constexpr int kHalf = kCount / 2;
    const bool upper = (lane_id() & kDistance) != 0;
    T kept[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const T sent = upper ? sums[i] : sums[i + kHalf];
      kept[i] = (upper ? sums[i + kHalf] : sums[i]) + __shfl_xor_sync(kAllLanes, sent, kDistance);
    }
    add_lanes<kHalf, kDistance / 2>(kept);
    sums[0] = kept[0];
  }
}

// Sums of all threads: number i is thread i's. `shared` is read until the next barrier.
template <int kCount, class T>
__device__ __forceinline__ T add_threads(T (&sums)[kCount], T (&shared)[kCodesWarps][kCount]) {
  static_assert(kCount <= kWarp);
  add_lanes(sums);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (lane_id() % (kWarp / kCount) == 0) shared[warp][lane_id() * kCount / kWarp] = sums[0];
  __syncthreads();
  T sum = 0;
  if (threadIdx.x < kCount) {
    for (int w = 0; w < kCodesWarps; ++w) sum += shared[w][threadIdx.x];
  }
  return sum;
}

inline std::int64_t weight_blocks(std::int64_t rows) {
  return (rows + kWeightRows - 1) / kWeightRows;
}

}  // namespace strop::linear::cuda
