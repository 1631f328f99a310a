#pragma once

// Strips: tiles (Note [Quantize tiles] in cpu/quantize.h) as a thread block works on them, and the
// extremes of their blocks.

#include "cuda/quantize.cuh"

namespace strop::cuda {

// Blocks along the inner dimension that a strip may touch.
inline constexpr int kStripBlocks = 256;

struct Strip {
  Row origin;                     // of the slab's first row, at column 0
  std::int64_t extent[kMaxDims];  // of the slab in the outer dimensions
  std::int64_t first_row;
  std::int64_t rows;
  std::int64_t column;
  std::int64_t columns;
  std::int64_t first_block;
  int blocks;

  __device__ void place(const FakeQuantizeArgs& args, const TileShape& shape, std::int64_t number) {
    const QuantizeDim& inner = args.dim[args.dims - 1];
    std::int64_t rest = quotient(number, shape.column_pieces);
    column = (number - rest * shape.column_pieces) * shape.columns;
    columns = column + shape.columns < inner.size ? shape.columns : inner.size - column;
    first_block = quotient(column, inner.block);
    blocks = static_cast<int>(quotient(column + columns - 1, inner.block) - first_block) + 1;
    std::int64_t slab = quotient(rest, shape.row_pieces);
    first_row = (rest - slab * shape.row_pieces) * shape.rows;
    origin = {0, 0, args.first_index, 0, 0};
    std::int64_t slab_rows = 1;
    for (int d = args.dims - 2; d >= 0; --d) {
      const QuantizeDim& dim = args.dim[d];
      rest = quotient(slab, dim.blocks());
      const std::int64_t block = slab - rest * dim.blocks();
      slab = rest;
      const std::int64_t begin = block * dim.block;
      extent[d] = begin + dim.block < dim.size ? dim.block : dim.size - begin;
      slab_rows *= extent[d];
      origin.input += begin * dim.input;
      origin.output += begin * dim.output;
      origin.index += begin * dim.index;
      origin.scale += block * dim.scale;
      origin.zero_point += block * dim.zero_point;
    }
    rows = slab_rows - first_row < shape.rows ? slab_rows - first_row : shape.rows;
    if (rows < 0) rows = 0;
  }

  __device__ __forceinline__ Row row(const FakeQuantizeArgs& args, std::int64_t number) const {
    Row at = origin;
    number += first_row;
    for (int d = args.dims - 2; d >= 0 && number > 0; --d) {
      const std::int64_t next = quotient(number, extent[d]);
      const std::int64_t position = number - next * extent[d];
      number = next;
      at.input += position * args.dim[d].input;
      at.output += position * args.dim[d].output;
      at.index += position * args.dim[d].index;
    }
    return at;
  }
};

// Calls visit(piece) for each piece of a strip, several of them loaded ahead.
template <class T, int kVector, class Visit>
__device__ __forceinline__ void for_each_piece(const FakeQuantizeArgs& args, const Strip& strip,
                                               Visit visit) {
  constexpr int kAhead = 4;
  const std::int64_t row_pieces = (strip.columns + kVector - 1) / kVector;
  const std::int64_t pieces = strip.rows * row_pieces;
  for (std::int64_t base = threadIdx.x; base < pieces; base += kAhead * blockDim.x) {
    Piece<T, kVector> held[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      Piece<T, kVector>& piece = held[i];
      const std::int64_t number = base + i * std::int64_t{blockDim.x};
      piece.count = 0;
      if (number >= pieces) continue;
      const std::int64_t row = quotient(number, row_pieces);
      const std::int64_t at = (number - row * row_pieces) * kVector;
      piece.row = strip.row(args, row);
      piece.column = strip.column + at;
      const std::int64_t left = strip.columns - at;
      piece.count = left < kVector ? static_cast<int>(left) : kVector;
      piece.load(args);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (held[i].count > 0) visit(held[i]);
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
    if (found.max > 0) atomicMax(max + block, found.max);
    if (found.min < 0) atomicMin(min + block, found.min);
  }

  // Of a strip; no piece is of two blocks. A thread keeps to itself what it finds of one block
  // until it meets another.
  template <class T, int kVector>
  __device__ __forceinline__ void gather(const FakeQuantizeArgs& args, const Strip& strip) {
    const std::int64_t width = args.dim[args.dims - 1].block;
    Extremes<A> held;
    int current = 0;
    for_each_piece<T, kVector>(args, strip, [&](const Piece<T, kVector>& piece) {
      const int block = static_cast<int>(quotient(piece.column, width) - strip.first_block);
      if (block != current) {
        add(current, held);
        held = {};
        current = block;
      }
      held.join(piece.extremes(args.rule.symmetric));
    });
    if (strip.blocks == 1) {
      held = extremes_of_lanes(held, kWarp, args.rule.symmetric);
      if (lane_id() != 0) return;
    }
    add(current, held);
  }

  // Places strip number `number`, and finds its blocks' extremes. Strip and extremes are shared by
  // the thread block, all of which is here.
  template <class T, int kVector>
  __device__ __forceinline__ void find(const FakeQuantizeArgs& args, const TileShape& shape,
                                       std::int64_t number, Strip& strip) {
    __syncthreads();  // the strip before is done with
    if (threadIdx.x == 0) strip.place(args, shape, number);
    clear();
    __syncthreads();
    gather<T, kVector>(args, strip);
    __syncthreads();
  }
};

}  // namespace strop::cuda
