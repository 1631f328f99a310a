#pragma once

// Strips: tiles (Note [Quantize tiles] in quantize/kernels.h) as a thread block works on them, and
// the extremes of their blocks.

#include "quantize/cuda/values.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

// In memory an extreme is the integer that orders as the value does, for atomics; NaN is beyond
// everything.
template <class A>
struct KeyOf {
  using Type = int;
};
template <>
struct KeyOf<double> {
  using Type = long long;
};
template <class A>
using Key = typename KeyOf<A>::Type;

__device__ __forceinline__ int key_bits(float v) { return __float_as_int(v); }
__device__ __forceinline__ long long key_bits(double v) { return __double_as_longlong(v); }
__device__ __forceinline__ float key_value(int v) { return __int_as_float(v); }
__device__ __forceinline__ double key_value(long long v) { return __longlong_as_double(v); }

template <class K>
inline constexpr K kLargestKey = static_cast<K>(~(K{1} << (8 * sizeof(K) - 1)));

template <class K>
__device__ __forceinline__ K flipped(K bits) {
  return bits < 0 ? bits ^ kLargestKey<K> : bits;
}

template <class A>
__device__ __forceinline__ Key<A> key_of(A v) {
  return v != v ? kLargestKey<Key<A>> : flipped(key_bits(v));
}

// Extremes of all blocks, in memory: of the block at scale offset i, min[i] and max[i].
template <class A>
struct KeyTable {
  Key<A>* min;
  Key<A>* max;

  __device__ __forceinline__ void add(std::int64_t block, Key<A> least, Key<A> most) const {
    if (most > 0) atomicMax(max + block, most);
    if (least < 0) atomicMin(min + block, least);
  }
};

// Blocks along the inner dimension that a strip may touch.
inline constexpr int kStripBlocks = 256;

struct Strip {
  Place origin;                   // of the slab's first row, at column 0
  std::int64_t extent[kMaxDims];  // of the slab in the outer dimensions
  std::int64_t first_row;
  std::int64_t rows;
  std::int64_t column;
  std::int64_t columns;
  std::int64_t first_block;
  int blocks;

  template <class A>
  __device__ void place(const Problem<A>& problem, const TileShape& shape, std::int64_t number) {
    const FakeQuantizeArgs& args = problem.args;
    const QuantizeDim& inner = problem.inner();
    std::int64_t rest = quotient(number, shape.column_pieces);
    column = (number - rest * shape.column_pieces) * shape.columns;
    columns = column + shape.columns < inner.size ? shape.columns : inner.size - column;
    first_block = problem.block_of(column);
    blocks = static_cast<int>(problem.block_of(column + columns - 1) - first_block) + 1;
    std::int64_t slab = quotient(rest, shape.row_pieces);
    first_row = (rest - slab * shape.row_pieces) * shape.rows;
    origin = {0, 0, args.first_index, 0, 0};
    std::int64_t slab_rows = 1;
    for (int d = args.dims - 2; d >= 0; --d) {
      const QuantizeDim& dim = args.dim[d];
      rest = d == 0 ? 0 : quotient(slab, dim.blocks());
      const std::int64_t block = slab - rest * dim.blocks();
      slab = rest;
      const std::int64_t begin = block * dim.block;
      extent[d] = begin + dim.block < dim.size ? dim.block : dim.size - begin;
      slab_rows *= extent[d];
      origin.move(dim, begin);
      origin.move_blocks(dim, block);
    }
    rows = slab_rows - first_row < shape.rows ? slab_rows - first_row : shape.rows;
    if (rows < 0) rows = 0;
  }

  __device__ __forceinline__ Place row(const FakeQuantizeArgs& args, std::int64_t number) const {
    Place at = origin;
    number += first_row;
#pragma unroll 1
    for (int d = args.dims - 2; d >= 0 && number > 0; --d) {
      const std::int64_t next = d == 0 ? 0 : quotient(number, extent[d]);
      at.move(args.dim[d], number - next * extent[d]);
      number = next;
    }
    return at;
  }
};

// Calls visit(piece, column) for each piece of a strip, several of them loaded ahead.
template <class T, int kVector, class A, class Visit>
__device__ __forceinline__ void for_each_piece(const Problem<A>& problem, const Strip& strip,
                                               Visit visit) {
  constexpr int kAhead = 4;
  // (a strip has fewer pieces than 2^31 a row, and a thread goes on by as many at each step)
  const int row_pieces = static_cast<int>((strip.columns + kVector - 1) / kVector);
  const int row_step = static_cast<int>(blockDim.x) / row_pieces;
  const int column_step = static_cast<int>(blockDim.x) - row_step * row_pieces;
  std::int64_t row = static_cast<int>(threadIdx.x) / row_pieces;
  int at = static_cast<int>(threadIdx.x) % row_pieces;
  while (row < strip.rows) {
    Piece<T, kVector> held[kAhead];
    std::int64_t columns[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (row < strip.rows) {
        columns[i] = strip.column + std::int64_t{at} * kVector;
        Place place = strip.row(problem.args, row);
        place.move_to(problem.inner(), columns[i], problem.whole && kVector > 1);
        held[i].load(problem, place, static_cast<int>(strip.columns) - at * kVector);
      }
      row += row_step;
      at += column_step;
      if (at < row_pieces) continue;
      at -= row_pieces;
      ++row;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (held[i].count > 0) visit(held[i], columns[i]);
    }
  }
}

template <class A>
struct StripExtremes {
  Key<A> min[kStripBlocks];
  Key<A> max[kStripBlocks];

  __device__ __forceinline__ void clear() {
    for (int i = static_cast<int>(threadIdx.x); i < kStripBlocks; i += blockDim.x) {
      min[i] = max[i] = 0;
    }
  }

  __device__ __forceinline__ void add(int block, const Extremes<A>& found) {
    KeyTable<A>{min, max}.add(block, key_of(found.min), key_of(found.max));
  }

  __device__ __forceinline__ Extremes<A> of(int block) const {
    return {key_value(flipped(min[block])), key_value(flipped(max[block]))};
  }

  // Of a strip; no piece is of two blocks. A thread keeps to itself what it finds of one block
  // until it meets another.
  template <class T, int kVector>
  __device__ __forceinline__ void gather(const Problem<A>& problem, const Strip& strip) {
    const bool symmetric = problem.rule.symmetric;
    Extremes<A> held;
    int current = 0;
    const auto visit = [&](const Piece<T, kVector>& piece, std::int64_t column) {
      const int block =
          strip.blocks == 1 ? 0 : static_cast<int>(problem.block_of(column) - strip.first_block);
      if (block != current) {
        add(current, held);
        held = {};
        current = block;
      }
      held.join(piece.extremes(symmetric), symmetric);
    };
    for_each_piece<T, kVector>(problem, strip, visit);
    if (strip.blocks == 1) {
      held = extremes_of_lanes(held, kWarp, symmetric);
      if (lane_id() != 0) return;
    }
    add(current, held);
  }

  // Places strip number `number`, and finds its blocks' extremes. Strip and extremes are shared by
  // the thread block, all of which is here.
  template <class T, int kVector>
  __device__ __forceinline__ void find(const Problem<A>& problem, const TileShape& shape,
                                       std::int64_t number, Strip& strip) {
    __syncthreads();  // the strip before is done with
    if (threadIdx.x == 0) strip.place(problem, shape, number);
    clear();
    __syncthreads();
    gather<T, kVector>(problem, strip);
    __syncthreads();
  }
};

}  // namespace strop::quantize::cuda
