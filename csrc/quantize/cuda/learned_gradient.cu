// The gradients of a learned scale and zero point on a GPU, in the order of Note [Order of sums] in
// quantize/gradient.h: a thread block for each tile, four threads for each run.

#include <algorithm>

#include "core/cuda/launch.h"
#include "quantize/cuda/learned_gradient.cuh"
#include "quantize/gradient_arguments.h"

namespace strop::quantize::cuda {
using namespace strop::cuda;
namespace {

constexpr int kThreads = 256;

template <class T, bool kUsual>
__global__ void __launch_bounds__(kThreads, kUsual && sizeof(T) < 8 ? 3 : 2)
    learned_kernel(const __grid_constant__ Learning<Arithmetic<T>> on, Sums<double>* found) {
  __shared__ Strip strip;
  for (std::int64_t tile = blockIdx.x; tile < on.tiles.shape.tiles; tile += gridDim.x) {
    __syncthreads();
    if (threadIdx.x == 0) strip.place(on.problem, on.tiles.shape, tile);
    __syncthreads();
    Sums<double>* const totals = found + tile * on.tiles.blocks_held;
    for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += blockDim.x) totals[i] = {};
    if (on.problem.inner().block < kRunLanes) {
      learn_narrow<kUsual, T>(on, strip, totals);
    } else {
      learn_runs<kUsual, T>(on, strip, totals);
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

// The tiles that a block has a part in, in their order.
struct BlockTiles {
  std::int64_t slab;
  std::int64_t block;
  std::int64_t first;  // piece of the slab's columns
  std::int64_t pieces;

  __device__ __forceinline__ BlockTiles(const FakeQuantizeArgs& args, const SumTiles& tiles,
                                        std::int64_t number) {
    const QuantizeDim& inner = args.dim[args.dims - 1];
    slab = quotient(number, inner.blocks());
    block = number - slab * inner.blocks();
    const std::int64_t begin = block * inner.block;
    const std::int64_t end = begin + inner.block < inner.size ? begin + inner.block : inner.size;
    first = quotient(begin, tiles.shape.columns);
    pieces = quotient(end - 1, tiles.shape.columns) - first + 1;
  }

  // What a tile of them found.
  __device__ __forceinline__ const Sums<double>& of(const FakeQuantizeArgs& args,
                                                    const SumTiles& tiles, std::int64_t number,
                                                    const Sums<double>* found) const {
    const std::int64_t row = quotient(number, pieces);
    const std::int64_t piece = first + number - row * pieces;
    const std::int64_t tile =
        (slab * tiles.shape.row_pieces + row) * tiles.shape.column_pieces + piece;
    const std::int64_t first_block =
        quotient(piece * tiles.shape.columns, args.dim[args.dims - 1].block);
    return found[tile * tiles.blocks_held + block - first_block];
  }
};

// kLanes threads for each block, 1 or a warp, which read as many tiles' sums at a time; one adds
// them up in order. For parameters of which each is of one block alone.
template <class A, int kLanes>
__global__ void __launch_bounds__(kThreads)
    own_totals_kernel(const __grid_constant__ FakeQuantizeArgs args,
                      const __grid_constant__ SumTiles tiles, Parameter parameter, double factor,
                      const Sums<double>* found) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  for (std::int64_t i = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kLanes;
       i < parameter.count; i += step) {
    const BlockTiles of_block(args, tiles, i);
    const std::int64_t count = tiles.shape.row_pieces * of_block.pieces;
    double total = 0;
    for (std::int64_t base = 0; base < count; base += kLanes) {
      double sum = 0;  // which changes nothing
      if (base + lane < count) sum = parameter.of(of_block.of(args, tiles, base + lane, found));
      if constexpr (kLanes == 1) {
        total += sum;
      } else {
        for (int k = 0; k < kLanes; ++k) total += __shfl_sync(kAllLanes, sum, k);
      }
    }
    std::int64_t slab = of_block.slab;
    std::int64_t at = of_block.block * parameter.step(args.dim[args.dims - 1]);
    for (int d = args.dims - 2; d >= 0; --d) {
      const std::int64_t next = quotient(slab, args.dim[d].blocks());
      at += (slab - next * args.dim[d].blocks()) * parameter.step(args.dim[d]);
      slab = next;
    }
    if (lane == 0) static_cast<A*>(parameter.gradient)[at] = static_cast<A>(total * factor);
  }
}

// One thread, tile by tile: for parameters that several blocks share, as the CPU adds them up.
template <class A>
__global__ void shared_totals_kernel(const __grid_constant__ Problem<A> problem,
                                     const __grid_constant__ SumTiles tiles,
                                     const __grid_constant__ Parameter parameter, double factor,
                                     const Sums<double>* found, double* totals) {
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  const QuantizeDim& inner = problem.inner();
  for (std::int64_t i = 0; i < parameter.count; ++i) totals[i] = 0;
  for (std::int64_t tile = 0; tile < tiles.shape.tiles; ++tile) {
    Strip strip;
    strip.place(problem, tiles.shape, tile);
    const Place& origin = strip.origin;
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
void run_totals(const Learning<A>& learning, const Parameter& parameter, const Sums<double>* found,
                const Launch& on) {
  const SumTiles& tiles = learning.tiles;
  const double factor = learning.args.factor;
  if (each_has_one_block(learning.problem.args, parameter)) {
    constexpr std::int64_t kMany = 16;
    const std::int64_t width =
        std::min(learning.problem.inner().block, learning.problem.inner().size);
    const bool many = tiles.shape.row_pieces * divide_up(width, tiles.shape.columns) >= kMany;
    launch(on, many ? own_totals_kernel<A, kWarp> : own_totals_kernel<A, 1>,
           divide_up(parameter.count * (many ? kWarp : 1), kThreads), kThreads,
           learning.problem.args, tiles, parameter, factor, found);
    return;
  }
  auto* const totals = reinterpret_cast<double*>(
      const_cast<Sums<double>*>(found + tiles.shape.tiles * tiles.blocks_held));
  launch(on, shared_totals_kernel<A>, 1, kWarp, learning.problem, tiles, parameter, factor, found,
         totals);
}

// Whether each four columns of a run, from its first on, lie in memory as a vector does.
template <class T>
bool fours_fit(const LearnedGradientArgs& args, const SumTiles& tiles) {
  const FakeQuantizeArgs& forward = args.forward;
  const QuantizeDim& inner = forward.dim[forward.dims - 1];
  if (inner.input != 1) return false;
  const auto aligned = [](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % sizeof(Vector<T, 4>) == 0;
  };
  if (!aligned(forward.input) || !aligned(args.gradient) || !aligned(forward.output)) return false;
  for (int d = 0; d + 1 < forward.dims; ++d) {
    if (forward.dim[d].input % 4 != 0) return false;
  }
  return (inner.block % 4 == 0 || inner.block >= inner.size) &&
         (tiles.shape.columns % 4 == 0 || tiles.shape.column_pieces == 1);
}

// As many as have work in a full tile: of wide blocks it has few runs.
int threads_for(const FakeQuantizeArgs& args, const TileShape& shape) {
  const std::int64_t block = args.dim[args.dims - 1].block;
  if (block < kRunLanes) return kThreads;
  const std::int64_t width = std::min(block, shape.columns);
  const std::int64_t runs =
      shape.rows * divide_up(shape.columns, width) * divide_up(width, kRunColumns);
  const std::int64_t warps = divide_up(runs * kRunThreads, kWarp);
  return kWarp * static_cast<int>(std::min<std::int64_t>(warps, kThreads / kWarp));
}

template <class T>
void run_as(const LearnedGradientArgs& args, void* workspace, const Launch& on) {
  using A = Arithmetic<T>;
  const SumTiles tiles = sum_tiles(args.forward);
  const Learning<A> learning = {args, Problem<A>(args.forward, false), tiles,
                                fours_fit<T>(args, tiles)};
  auto* const found = static_cast<Sums<double>*>(workspace);
  const bool usual = learning.problem.rule.usual() && !learning.problem.floating_zero;
  launch(on, usual ? learned_kernel<T, true> : learned_kernel<T, false>, tiles.shape.tiles,
         threads_for(args.forward, tiles.shape), learning, found);
  run_totals(learning, {args.scale_gradient, args.scale_count, false}, found, on);
  if (args.zero_gradient == nullptr) return;
  run_totals(learning, {args.zero_gradient, args.zero_count, true}, found, on);
}

}  // namespace
}  // namespace strop::quantize::cuda

namespace strop::quantize {

std::size_t workspace_bytes(const LearnedGradientArgs& args, const Launch&) {
  if (args.forward.elements() == 0) return 0;
  const SumTiles tiles = sum_tiles(simplified(args.forward));
  const std::int64_t totals =
      args.scale_count > args.zero_count ? args.scale_count : args.zero_count;
  return static_cast<std::size_t>(tiles.shape.tiles * tiles.blocks_held) *
             sizeof(cuda::Sums<double>) +
         static_cast<std::size_t>(totals) * sizeof(double);
}

void run(const LearnedGradientArgs& original, void* workspace, const Launch& on) {
  if (original.forward.elements() == 0) {
    const auto item = static_cast<std::size_t>(original.forward.dtype == DType::kFloat64 ? 8 : 4);
    const auto clear = [&](void* gradient, std::int64_t count) {
      if (gradient == nullptr || count == 0) return;
      const std::size_t bytes = static_cast<std::size_t>(count) * item;
      cuda::check(cudaMemsetAsync(gradient, 0, bytes, on.stream), "clearing a gradient");
    };
    clear(original.scale_gradient, original.scale_count);
    clear(original.zero_gradient, original.zero_count);
    return;
  }
  LearnedGradientArgs args = original;
  args.forward = simplified(original.forward);
  by_dtype(args.forward.dtype, [&]<class T>() { cuda::run_as<T>(args, workspace, on); });
}

}  // namespace strop::quantize
