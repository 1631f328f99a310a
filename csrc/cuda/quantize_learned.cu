// The gradients of a learned scale and zero point on a GPU, in the order of Note [Order of sums] in
// kernels/quantize_gradient.h: a thread block for each tile, half a warp for each run.

#include "cuda/quantize.h"
#include "cuda/quantize_slab.cuh"
#include "kernels/quantize_gradient_arguments.h"

namespace strop::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHeldRuns = 1024;  // runs whose sums are in shared memory at a time

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

template <class A>
__device__ __noinline__ LearnedTerms<A> terms_by_rule(A x, A dy, const QuantizeParams<A>& params,
                                                      const FakeQuantizeArgs& args,
                                                      std::int64_t index) {
  const CodeRange<A> range = code_range<A>(args);
  return by_rounding<A>(args, index, [&]<Rounding kRounding>(A u) {
    if (args.rule.grid == Grid::kFloat) {
      return learned_terms_on_grid<kRounding>(x, dy, params, float_grid<A>(args.rule), u);
    }
    if (args.rule.grid == Grid::kNf4) {
      return learned_terms_on_grid<kRounding>(x, dy, params, Nf4Grid<A>{}, u);
    }
    return args.zero_point_is_floating() ? learned_terms<kRounding, true>(x, dy, params, range, u)
                                         : learned_terms<kRounding, false>(x, dy, params, range, u);
  });
}

// One element: writes the gradient of the input, returns the terms of the sums.
template <class T>
__device__ __forceinline__ Sums<Arithmetic<T>> learn(const LearnedGradientArgs& args,
                                                     const Row& row, std::int64_t column,
                                                     const QuantizeParams<Arithmetic<T>>& params) {
  const QuantizeDim& inner = args.forward.dim[args.forward.dims - 1];
  const std::int64_t at = row.input + column * inner.input;
  const auto x = widened(static_cast<const T*>(args.forward.input)[at]);
  const auto dy = widened(static_cast<const T*>(args.gradient)[at]);
  const auto terms = terms_by_rule(x, dy, params, args.forward, row.index + column * inner.index);
  static_cast<T*>(args.forward.output)[at] = narrowed<T>(terms.input);
  return {terms.scale, terms.zero_point};
}

template <class T>
__device__ __forceinline__ QuantizeParams<Arithmetic<T>> params_of(const FakeQuantizeArgs& args,
                                                                   const Strip& strip, int block) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t number = strip.first_block + block;
  return given_params<Arithmetic<T>>(args, strip.origin.scale + number * inner.scale,
                                     strip.origin.zero_point + number * inner.zero_point);
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

// Half a warp's run: number `run` of a row. All lanes of the warp are here; `there` says whether
// this half has a run.
template <class T>
__device__ __forceinline__ Sums<Arithmetic<T>> sum_run(const LearnedGradientArgs& args,
                                                       const Strip& strip, const RowRuns& runs,
                                                       std::int64_t number, bool there) {
  using A = Arithmetic<T>;
  Sums<A> sums = {};
  if (there) {
    const std::int64_t width = args.forward.dim[args.forward.dims - 1].block;
    const std::int64_t row = quotient(number, runs.all);
    int run = static_cast<int>(number - row * runs.all);
    int block = 0;
    std::int64_t begin = 0, end = runs.first_columns;
    if (run >= runs.first) {
      run -= runs.first;
      block = 1 + run / runs.each;
      run %= runs.each;
      begin = runs.first_columns + (block - 1) * width;
      end = begin + width < strip.columns ? begin + width : strip.columns;
    }
    begin += run * kRunColumns;
    if (begin + kRunColumns < end) end = begin + kRunColumns;
    const Row at = strip.row(args.forward, row);
    const auto params = params_of<T>(args.forward, strip, block);
    for (std::int64_t i = begin + lane_id() % kRunLanes; i < end; i += kRunLanes) {
      sums.add(learn<T>(args, at, strip.column + i, params));
    }
  }
  for (int half = kRunLanes / 2; half > 0; half /= 2) {
    Sums<A> other;
    other.scale = __shfl_down_sync(kAllLanes, sums.scale, half, kRunLanes);
    other.zero_point = __shfl_down_sync(kAllLanes, sums.zero_point, half, kRunLanes);
    sums.add(other);
  }
  return sums;  // of the half's first lane
}

// Blocks of 16 columns or more: runs into shared memory, then a thread for each block adds its
// runs up in order.
template <class T>
__device__ __forceinline__ void learn_runs(const LearnedGradientArgs& args, const Strip& strip,
                                           Sums<double>* totals) {
  using A = Arithmetic<T>;
  __shared__ Sums<A> held[kHeldRuns];
  const RowRuns runs(strip, args.forward.dim[args.forward.dims - 1].block);
  const std::int64_t count = strip.rows * runs.all;
  for (std::int64_t first = 0; first < count; first += kHeldRuns) {
    const int here = count - first < kHeldRuns ? static_cast<int>(count - first) : kHeldRuns;
    for (int base = 0; base < here; base += kThreads / kRunLanes) {
      const int run = base + static_cast<int>(threadIdx.x) / kRunLanes;
      const bool there = run < here;
      const Sums<A> sums = sum_run<T>(args, strip, runs, first + run, there);
      if (there && threadIdx.x % kRunLanes == 0) held[run] = sums;
    }
    __syncthreads();
    for (int block = static_cast<int>(threadIdx.x); block < strip.blocks; block += kThreads) {
      const int begin = block == 0 ? 0 : runs.first + (block - 1) * runs.each;
      const int length = block == 0 ? runs.first : runs.each;
      const std::int64_t last = quotient(first + here - 1, runs.all);
      for (std::int64_t row = quotient(first, runs.all); row <= last; ++row) {
        for (int i = 0; i < length; ++i) {
          const std::int64_t run = row * runs.all + begin + i - first;
          if (run >= 0 && run < here) totals[block].add(held[run]);
        }
      }
    }
    __syncthreads();
  }
}

// Narrower blocks: a thread for each, its elements in order.
template <class T>
__device__ __forceinline__ void learn_narrow(const LearnedGradientArgs& args, const Strip& strip,
                                             Sums<double>* totals) {
  const std::int64_t width = args.forward.dim[args.forward.dims - 1].block;
  for (int block = static_cast<int>(threadIdx.x); block < strip.blocks; block += kThreads) {
    const auto params = params_of<T>(args.forward, strip, block);
    const std::int64_t begin = (strip.first_block + block) * width;
    const std::int64_t last = strip.column + strip.columns;
    const std::int64_t end = begin + width < last ? begin + width : last;
    for (std::int64_t r = 0; r < strip.rows; ++r) {
      const Row row = strip.row(args.forward, r);
      for (std::int64_t i = begin < strip.column ? strip.column : begin; i < end; ++i) {
        totals[block].add(learn<T>(args, row, i, params));
      }
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    learned_kernel(const __grid_constant__ LearnedGradientArgs args,
                   const __grid_constant__ SumTiles tiles, Sums<double>* found) {
  __shared__ Strip strip;
  for (std::int64_t tile = blockIdx.x; tile < tiles.shape.tiles; tile += gridDim.x) {
    __syncthreads();
    if (threadIdx.x == 0) strip.place(args.forward, tiles.shape, tile);
    __syncthreads();
    Sums<double>* const totals = found + tile * tiles.blocks_held;
    for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += kThreads) totals[i] = {};
    if (args.forward.dim[args.forward.dims - 1].block < kRunLanes) {
      learn_narrow<T>(args, strip, totals);
    } else {
      learn_runs<T>(args, strip, totals);
    }
  }
}

// Which gradient a thread puts together, and where its blocks' parameters are.
struct Parameter {
  void* gradient;
  std::int64_t count;
  bool is_zero_point;

  __device__ __forceinline__ double of(const Sums<double>& sums) const {
    return is_zero_point ? sums.zero_point : sums.scale;
  }
  __device__ __forceinline__ std::int64_t step(const QuantizeDim& dim) const {
    return is_zero_point ? dim.zero_point : dim.scale;
  }
};

// A thread for each block: its tiles' sums in their order. For parameters of which each is of one
// block alone.
template <class A>
__global__ void __launch_bounds__(kThreads)
    own_totals_kernel(const __grid_constant__ FakeQuantizeArgs args,
                      const __grid_constant__ SumTiles tiles, Parameter parameter, double factor,
                      const Sums<double>* found) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t blocks = parameter.count;
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < blocks;
       i += step) {
    std::int64_t slab = quotient(i, inner.blocks());
    const std::int64_t block = i - slab * inner.blocks();
    const std::int64_t begin = block * inner.block;
    const std::int64_t end = begin + inner.block < inner.size ? begin + inner.block : inner.size;
    double total = 0;
    for (std::int64_t row = 0; row < tiles.shape.row_pieces; ++row) {
      for (std::int64_t piece = quotient(begin, tiles.shape.columns);
           piece * tiles.shape.columns < end; ++piece) {
        const std::int64_t tile =
            (slab * tiles.shape.row_pieces + row) * tiles.shape.column_pieces + piece;
        const std::int64_t first = quotient(piece * tiles.shape.columns, inner.block);
        total += parameter.of(found[tile * tiles.blocks_held + block - first]);
      }
    }
    std::int64_t at = block * parameter.step(inner);
    for (int d = args.dims - 2; d >= 0; --d) {
      const std::int64_t next = quotient(slab, args.dim[d].blocks());
      at += (slab - next * args.dim[d].blocks()) * parameter.step(args.dim[d]);
      slab = next;
    }
    static_cast<A*>(parameter.gradient)[at] = static_cast<A>(total * factor);
  }
}

// One thread, tile by tile: for parameters that several blocks share, as the CPU adds them up.
template <class A>
__global__ void shared_totals_kernel(const __grid_constant__ FakeQuantizeArgs args,
                                     const __grid_constant__ SumTiles tiles,
                                     const __grid_constant__ Parameter parameter, double factor,
                                     const Sums<double>* found, double* totals) {
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  const QuantizeDim& inner = args.dim[args.dims - 1];
  for (std::int64_t i = 0; i < parameter.count; ++i) totals[i] = 0;
  for (std::int64_t tile = 0; tile < tiles.shape.tiles; ++tile) {
    Strip strip;
    strip.place(args, tiles.shape, tile);
    const Row& origin = strip.origin;
    const std::int64_t first = parameter.is_zero_point ? origin.zero_point : origin.scale;
    for (int i = 0; i < strip.blocks; ++i) {
      const std::int64_t at = first + (strip.first_block + i) * parameter.step(inner);
      totals[at] += parameter.of(found[tile * tiles.blocks_held + i]);
    }
  }
  for (std::int64_t i = 0; i < parameter.count; ++i) {
    static_cast<A*>(parameter.gradient)[i] = static_cast<A>(totals[i] * factor);
  }
}

bool each_has_one_block(const FakeQuantizeArgs& args, const Parameter& parameter) {
  for (int d = 0; d < args.dims; ++d) {
    const std::int64_t step = parameter.is_zero_point ? args.dim[d].zero_point : args.dim[d].scale;
    if (args.dim[d].blocks() > 1 && step == 0) return false;
  }
  return true;
}

template <class A>
void run_totals(const LearnedGradientArgs& args, const SumTiles& tiles, const Parameter& parameter,
                const Sums<double>* found, const Launch& on) {
  if (each_has_one_block(args.forward, parameter)) {
    launch(on, own_totals_kernel<A>, divide_up(parameter.count, kThreads), kThreads, args.forward,
           tiles, parameter, args.factor, found);
    return;
  }
  auto* const totals = reinterpret_cast<double*>(
      const_cast<Sums<double>*>(found + tiles.shape.tiles * tiles.blocks_held));
  launch(on, shared_totals_kernel<A>, 1, kWarp, args.forward, tiles, parameter, args.factor, found,
         totals);
}

template <class T>
void run(const LearnedGradientArgs& args, void* workspace, const Launch& on) {
  const SumTiles tiles = sum_tiles(args.forward);
  auto* const found = static_cast<Sums<double>*>(workspace);
  launch(on, learned_kernel<T>, tiles.shape.tiles, kThreads, args, tiles, found);
  run_totals<Arithmetic<T>>(args, tiles, {args.scale_gradient, args.scale_count, false}, found, on);
  if (args.zero_gradient == nullptr) return;
  run_totals<Arithmetic<T>>(args, tiles, {args.zero_gradient, args.zero_count, true}, found, on);
}

}  // namespace

std::size_t learned_gradient_workspace(const LearnedGradientArgs& args) {
  if (args.forward.elements() == 0) return 0;
  const SumTiles tiles = sum_tiles(simplified(args.forward));
  const std::int64_t totals =
      args.scale_count > args.zero_count ? args.scale_count : args.zero_count;
  return static_cast<std::size_t>(tiles.shape.tiles * tiles.blocks_held) * sizeof(Sums<double>) +
         static_cast<std::size_t>(totals) * sizeof(double);
}

void learned_gradient(const LearnedGradientArgs& original, void* workspace, const Launch& on) {
  if (original.forward.elements() == 0) {
    const auto item = static_cast<std::size_t>(original.forward.dtype == DType::kFloat64 ? 8 : 4);
    const auto clear = [&](void* gradient, std::int64_t count) {
      if (gradient == nullptr || count == 0) return;
      const std::size_t bytes = static_cast<std::size_t>(count) * item;
      check(cudaMemsetAsync(gradient, 0, bytes, on.stream), "clearing a gradient");
    };
    clear(original.scale_gradient, original.scale_count);
    clear(original.zero_gradient, original.zero_count);
    return;
  }
  LearnedGradientArgs args = original;
  args.forward = simplified(original.forward);
  switch (args.forward.dtype) {
    case DType::kBFloat16:
      return run<BFloat16>(args, workspace, on);
    case DType::kFloat16:
      return run<Float16>(args, workspace, on);
    case DType::kFloat64:
      return run<double>(args, workspace, on);
    default:
      return run<float>(args, workspace, on);
  }
}

}  // namespace strop::cuda
