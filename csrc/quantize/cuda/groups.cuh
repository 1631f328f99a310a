#pragma once

// Dynamic blocks that are in the registers of a team of threads from load to store.

#include "quantize/cuda/values.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

inline constexpr int kMaxTeam = 1024;
inline constexpr int kMinThreads = 256;  // of a thread block

// Pieces that a thread holds: of vectors, of single elements.
template <int kVector>
inline constexpr int kGroupPieces = kVector > 1 ? 4 : 8;

// Groups: blocks of one row. A group's team has `lanes` threads, each with `rounds` of its pieces;
// both are powers of two. Teams larger than a warp are whole thread blocks, with all rounds.
struct GroupShape {
  int lanes;
  int rounds;
  int lane_bits;  // of a thread's number, that say which of its team it is
  int teams;      // of a thread block
  Divider row;    // by a row's groups
  std::int64_t groups;
  Place next;  // how far a thread's next piece of its group is

  // Groups that a thread block has at a time.
  __host__ __device__ std::int64_t stretch(unsigned pieces) const {
    return std::int64_t{teams} * static_cast<int>(pieces / static_cast<unsigned>(rounds));
  }
};

// What the pieces of each group found, in the first of them.
template <class A, int kPieces>
__device__ __forceinline__ void join_rounds(Extremes<A> (&found)[kPieces], int rounds,
                                            bool symmetric) {
  for (int span = 1; span < kPieces; span *= 2) {
    if (span >= rounds) return;
    for (int i = 0; i + span < kPieces; i += 2 * span) found[i].join(found[i + span], symmetric);
  }
}

// The extremes of a whole thread block. `turn` says which half of the shared memory is used: the
// other may still be read.
template <class A>
__device__ __forceinline__ Extremes<A> extremes_of_block(Extremes<A> found, bool symmetric,
                                                         int turn) {
  __shared__ A min[2][kWarp];
  __shared__ A max[2][kWarp];
  found = extremes_of_lanes(found, kWarp, symmetric);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (lane_id() == 0) {
    min[turn][warp] = found.min;
    max[turn][warp] = found.max;
  }
  __syncthreads();
  found = {};
  if (lane_id() < static_cast<int>(blockDim.x) / kWarp) {
    found = {min[turn][lane_id()], max[turn][lane_id()]};
  }
  return extremes_of_lanes(found, kWarp, symmetric);
}

template <class T, int kVector, bool kUsual>
__global__ void __launch_bounds__(kMaxTeam)
    groups_kernel(const __grid_constant__ Problem<Arithmetic<T>> problem,
                  const __grid_constant__ GroupShape shape) {
  using A = Arithmetic<T>;
  constexpr int kPieces = kGroupPieces<kVector>;
  const QuantizeDim& inner = problem.inner();
  const bool symmetric = problem.rule.symmetric;
  const int later = shape.rounds - 1;  // the bits that the first of a group's pieces has not
  const int lane = static_cast<int>(threadIdx.x) & ((1 << shape.lane_bits) - 1);
  const int team = static_cast<int>(threadIdx.x) >> shape.lane_bits;
  const std::int64_t stretch = shape.stretch(kPieces);
  int turn = 0;
  for (std::int64_t first = blockIdx.x * stretch; first < shape.groups;
       first += gridDim.x * stretch) {
    Piece<T, kVector> held[kPieces];
    Extremes<A> found[kPieces];
    Place row = {}, place = {};
    int left = 0;  // of the group's elements, from the thread's next piece on
    std::int64_t number = first + team;
    std::int64_t group = shape.row.divisor();  // in the row: the first one finds its own
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if ((i & later) == 0) {
        if (group >= shape.row.divisor()) {
          const std::int64_t row_number = shape.row.quotient(number);
          group = number - row_number * shape.row.divisor();
          row = row_at(problem, row_number);
        }
        const std::int64_t column = group * inner.block;
        const std::int64_t rest = inner.size - column;
        left = static_cast<int>(rest < inner.block ? rest : inner.block) - lane * kVector;
        if (number >= shape.groups) left = 0;
        place = row;
        place.move_to(inner, column + lane * kVector, problem.whole);
        group += shape.teams;
        number += shape.teams;
      }
      if (left > 0) held[i].load(problem, place, left);
      left -= shape.lanes * kVector;
      place.add(shape.next);
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) found[i] = held[i].extremes(symmetric);
    join_rounds(found, shape.rounds, symmetric);
    QuantizeParams<A> params = {};
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      if ((i & later) == 0) {
        const Extremes<A> all = shape.lanes > kWarp
                                    ? extremes_of_block(found[i], symmetric, turn)
                                    : extremes_of_lanes(found[i], shape.lanes, symmetric);
        params = chosen_params(all, problem.rule);
        turn ^= 1;
      }
      if (held[i].count == 0) continue;
      quantize_piece<kUsual, false>(held[i], problem, [&](int) { return params; });
      held[i].store(problem);
    }
  }
}

}  // namespace strop::quantize::cuda
