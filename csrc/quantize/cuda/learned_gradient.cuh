#pragma once

// Device parts of the gradients of a learned scale and zero point: elements, runs, tiles.

#include "quantize/cuda/slab.cuh"
#include "quantize/gradient.h"

namespace strop::quantize::cuda {
using namespace strop::cuda;

inline constexpr int kHeldRuns = 1024;  // whose sums are in shared memory at a time

// What a tile found, or a run: the two sums.
template <class A>
struct Sums {
  A scale;
  A zero_point;

  template <class B>
  __device__ __forceinline__ void add(const Sums<B>& other) {
    scale += static_cast<A>(other.scale);
    zero_point += static_cast<A>(other.zero_point);
  }
};

// Up to kCount elements of a row that lie side by side.
template <class T, int kCount>
struct Neighbours {
  std::int64_t at;  // of the first
  std::int64_t index;
  int count = 0;
  Vector<T, kCount> x = {};
  Vector<T, kCount> dy = {};

  // From a column on, up to another. `whole`: they may be read as a vector.
  __device__ __forceinline__ void load(const LearnedGradientArgs& args, const Place& row,
                                       std::int64_t column, std::int64_t end, bool whole) {
    const QuantizeDim& inner = args.forward.dim[args.forward.dims - 1];
    const std::int64_t left = end - column;
    count = left < kCount ? (left < 0 ? 0 : static_cast<int>(left)) : kCount;
    at = row.input + column * inner.input;
    index = row.index + column * inner.index;
    const T* const input = static_cast<const T*>(args.forward.input) + at;
    const T* const gradient = static_cast<const T*>(args.gradient) + at;
    if (kCount > 1 && whole && count == kCount) {
      x = *reinterpret_cast<const Vector<T, kCount>*>(input);
      dy = *reinterpret_cast<const Vector<T, kCount>*>(gradient);
      return;
    }
    for (int i = 0; i < kCount; ++i) {
      if (i < count) x.fill(i, input[i * inner.input]);
      if (i < count) dy.fill(i, gradient[i * inner.input]);
    }
  }

  // Writes the input's gradient, which is in dy.
  __device__ __forceinline__ void store(const FakeQuantizeArgs& args, bool whole) const {
    T* const to = static_cast<T*>(args.output) + at;
    if (kCount > 1 && whole && count == kCount) {
      *reinterpret_cast<Vector<T, kCount>*>(to) = dy;
      return;
    }
    for (int i = 0; i < kCount; ++i) {
      if (i < count) to[i * args.dim[args.dims - 1].input] = dy.lane(i);
    }
  }
};

// A launch's constants. `whole`: four neighbours may be read at once.
template <class A>
struct Learning {
  LearnedGradientArgs args;
  Problem<A> problem;
  SumTiles tiles;
  bool whole;
};

// Replaces dy by the input's gradient; adds each element's terms to the sums of its place. kUsual:
// to nearest, ties to even, an integer zero point.
template <bool kUsual, class T, int kCount>
__device__ __forceinline__ void learn(Neighbours<T, kCount>& held,
                                      const Problem<Arithmetic<T>>& problem,
                                      const QuantizeParams<Arithmetic<T>>& params,
                                      Sums<Arithmetic<T>> (&sums)[kCount]) {
  using A = Arithmetic<T>;
  A gradients[kCount];
  const auto put = [&](int i, const LearnedTerms<A>& terms) {
    gradients[i] = terms.input;
    if (i < held.count) sums[i].add(Sums<A>{terms.scale, terms.zero_point});
  };
  if (kUsual || problem.rule.grid == Grid::kInteger) {
    const CodeRange<A> range = {problem.rule.quant_min, problem.rule.quant_max};
    for_each_code<kUsual, kCount>(problem, held.index, [&](int i, auto code) {
      const A scaled = widened(held.x.lane(i)) * params.inverse;
      put(i, terms_of_code(scaled, code(scaled, params.zero_point), widened(held.dy.lane(i)),
                           params, range));
    });
  } else {
    for_each_on_grid<kCount>(problem, held.index, [&](int i, auto on) {
      const A scaled = widened(held.x.lane(i)) * params.inverse;
      put(i, terms_on_grid(scaled, on(scaled), widened(held.dy.lane(i))));
    });
  }
  narrow(gradients, held.dy);
}

template <class A>
__device__ __forceinline__ QuantizeParams<A> params_of(const Problem<A>& problem,
                                                       const Strip& strip, int block) {
  Place place = strip.origin;
  place.move_blocks(problem.inner(), strip.first_block + block);
  return given_params<A>(problem.args, place.scale, place.zero_point);
}

// How the runs of a tile's row lie: those of the first block, which may have begun before the tile,
// then as many for every further one.
struct RowRuns {
  std::int64_t first_columns;  // of the first block
  int first;                   // runs of it
  int each;                    // of a further one
  int all;

  __device__ RowRuns(const Strip& strip, std::int64_t width) {
    const auto runs = [](std::int64_t n) { return static_cast<int>(divide_up(n, kRunColumns)); };
    first_columns = (strip.first_block + 1) * width - strip.column;
    if (first_columns > strip.columns) first_columns = strip.columns;
    first = runs(first_columns);
    each = runs(width);
    all = first + (strip.blocks - 1) * each;
  }
};

// Where a run lies in a strip.
struct Run {
  std::int64_t row;
  int block;
  std::int64_t begin;  // columns
  std::int64_t end;

  __device__ __forceinline__ Run(const Strip& strip, const RowRuns& runs, std::int64_t width,
                                 std::int64_t number)
      : row(strip.rows == 1 ? 0 : quotient(number, runs.all)),
        block(0),
        begin(0),
        end(runs.first_columns) {
    int run = static_cast<int>(number - row * runs.all);
    if (run >= runs.first) {
      run -= runs.first;
      block = 1 + (runs.each == 1 ? run : run / runs.each);
      run -= (block - 1) * runs.each;
      begin = runs.first_columns + (block - 1) * width;
      end = begin + width < strip.columns ? begin + width : strip.columns;
    }
    begin += run * kRunColumns;
    if (begin + kRunColumns < end) end = begin + kRunColumns;
  }
};

// Note [Four threads a run]
// A run's sixteen sums are those of its columns 0, 16, 32..., of 1, 17, 33... and so on: thread i
// of four has the sums 4i to 4i + 3, of four neighbouring columns at a time.
inline constexpr int kRunThreads = kRunLanes / 4;

// All lanes of the warp are here; `there` says whether this thread has a run.
template <bool kUsual, class T>
__device__ __forceinline__ Sums<Arithmetic<T>> sum_run(const Learning<Arithmetic<T>>& on,
                                                       const Strip& strip, const RowRuns& runs,
                                                       std::int64_t number, bool there) {
  using A = Arithmetic<T>;
  constexpr int kAhead = 4;
  Sums<A> sums[4] = {};
  if (there) {
    const Run run(strip, runs, on.problem.inner().block, number);
    const Place row = strip.row(on.problem.args, run.row);
    const auto params = params_of(on.problem, strip, run.block);
    const std::int64_t end = strip.column + run.end;
    for (std::int64_t column = strip.column + run.begin + threadIdx.x % kRunThreads * 4;
         column < end; column += kAhead * kRunLanes) {
      Neighbours<T, 4> held[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const std::int64_t at = column + i * kRunLanes;
        if (at < end) held[i].load(on.args, row, at, end, on.whole);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (held[i].count == 0) continue;
        learn<kUsual>(held[i], on.problem, params, sums);
        held[i].store(on.problem.args, on.whole);
      }
    }
  }
  for (int half = kRunThreads / 2; half > 0; half /= 2) {
    for (int i = 0; i < 4; ++i) {
      Sums<A> other = {};
      other.scale = __shfl_down_sync(kAllLanes, sums[i].scale, half, kRunThreads);
      if (on.args.zero_gradient != nullptr) {
        other.zero_point = __shfl_down_sync(kAllLanes, sums[i].zero_point, half, kRunThreads);
      }
      sums[i].add(other);
    }
  }
  sums[0].add(sums[2]);
  sums[1].add(sums[3]);
  sums[0].add(sums[1]);
  return sums[0];  // of the first of the four
}

// Blocks of 16 columns or more: runs into shared memory, then a thread for each block adds its
// runs up in order.
template <bool kUsual, class T>
__device__ __forceinline__ void learn_runs(const Learning<Arithmetic<T>>& on, const Strip& strip,
                                           Sums<double>* totals) {
  using A = Arithmetic<T>;
  __shared__ Sums<A> held[kHeldRuns];
  const int threads = static_cast<int>(blockDim.x);
  const RowRuns runs(strip, on.problem.inner().block);
  const std::int64_t count = strip.rows * runs.all;
  for (std::int64_t first = 0; first < count; first += kHeldRuns) {
    const int here = count - first < kHeldRuns ? static_cast<int>(count - first) : kHeldRuns;
    for (int base = 0; base < here; base += threads / kRunThreads) {
      const int run = base + static_cast<int>(threadIdx.x) / kRunThreads;
      const bool there = run < here;
      const Sums<A> sums = sum_run<kUsual, T>(on, strip, runs, first + run, there);
      if (there && threadIdx.x % kRunThreads == 0) held[run] = sums;
    }
    __syncthreads();
    for (int block = static_cast<int>(threadIdx.x); block < strip.blocks; block += threads) {
      const int begin = block == 0 ? 0 : runs.first + (block - 1) * runs.each;
      const int length = block == 0 ? runs.first : runs.each;
      const std::int64_t last = quotient(first + here - 1, runs.all);
      Sums<double> total = totals[block];
      for (std::int64_t row = quotient(first, runs.all); row <= last; ++row) {
        for (int i = 0; i < length; ++i) {
          const std::int64_t run = row * runs.all + begin + i - first;
          if (run >= 0 && run < here) total.add(held[run]);
        }
      }
      totals[block] = total;
    }
    __syncthreads();
  }
}

// Narrower blocks: a thread for each, its elements in order, row by row.
template <bool kUsual, class T>
__device__ __forceinline__ void learn_narrow(const Learning<Arithmetic<T>>& on, const Strip& strip,
                                             Sums<double>* totals) {
  using A = Arithmetic<T>;
  constexpr int kAhead = 4;
  const std::int64_t width = on.problem.inner().block;
  for (int block = static_cast<int>(threadIdx.x); block < strip.blocks; block += blockDim.x) {
    const auto params = params_of(on.problem, strip, block);
    const std::int64_t first = (strip.first_block + block) * width;
    const std::int64_t begin = first < strip.column ? strip.column : first;
    const std::int64_t last = strip.column + strip.columns;
    const std::int64_t end = first + width < last ? first + width : last;
    Sums<double> total = totals[block];
    std::int64_t column = begin, number = 0;
    Place row = strip.row(on.problem.args, 0);
    while (number < strip.rows) {
      Neighbours<T, 1> held[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (number >= strip.rows) continue;
        held[i].load(on.args, row, column, end, false);
        if (++column < end) continue;
        column = begin;
        if (++number < strip.rows) row = strip.row(on.problem.args, number);
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        if (held[i].count == 0) continue;
        Sums<A> sums[1] = {};
        learn<kUsual>(held[i], on.problem, params, sums);
        total.add(sums[0]);
        held[i].store(on.problem.args, false);
      }
    }
    totals[block] = total;
  }
}

}  // namespace strop::quantize::cuda
