// fake_quantize on a GPU: elements under known parameters; dynamic blocks in registers, or as slabs
// whose second reading is from the cache; extremes of blocks larger than that, for the first
// kernel.

#include <algorithm>

#include "quantize/arguments.h"
#include "quantize/cuda/elements.cuh"
#include "quantize/cuda/extremes.cuh"
#include "quantize/cuda/groups.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;
namespace {

// Blocks of more elements than this take two passes over memory.
constexpr std::int64_t kLargestSlab = 65536;

// Strips of whole blocks: extremes into shared memory, then results, from the cache.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads, 3)
    slabs_kernel(const __grid_constant__ Problem<Arithmetic<T>> problem,
                 const __grid_constant__ TileShape shape) {
  using A = Arithmetic<T>;
  __shared__ Strip strip;
  __shared__ StripExtremes<A> extremes;
  __shared__ QuantizeParams<A> params[kStripBlocks];
  for (std::int64_t number = blockIdx.x; number < shape.tiles; number += gridDim.x) {
    extremes.template find<T, kVector>(problem, shape, number, strip);
    for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += blockDim.x) {
      params[i] = chosen_params(extremes.of(i), problem.rule);
    }
    __syncthreads();
    const auto visit = [&](Piece<T, kVector>& piece, std::int64_t column) {
      const auto block = strip.blocks == 1 ? 0 : problem.block_of(column) - strip.first_block;
      quantize_piece<false, false>(piece, problem, [&](int) { return params[block]; });
      piece.store(problem);
    };
    for_each_piece<T, kVector>(problem, strip, visit);
  }
}

// What follows from a table of extremes, in its place: zero points for the smallest, scales for the
// largest elements.
template <class A>
__global__ void __launch_bounds__(kThreads)
    choose_kernel(const __grid_constant__ RuleNumbers<A> rule, KeyTable<A> keys,
                  std::int64_t blocks) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < blocks;
       i += step) {
    const Extremes<A> found = {key_value(flipped(keys.min[i])), key_value(flipped(keys.max[i]))};
    const QuantizeParams<A> params = chosen_params(found, rule);
    keys.min[i] = key_bits(params.zero_point);
    keys.max[i] = key_bits(params.scale);
  }
}

// Strips of whole blocks and of all rows of a slab.
TileShape whole_strips(const FakeQuantizeArgs& args) {
  constexpr std::int64_t kElements = 8192, kMinColumns = 64;
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t rows = args.slab_rows();
  const std::int64_t wanted = std::max(kElements / rows, kMinColumns);
  const std::int64_t blocks = std::clamp<std::int64_t>(wanted / inner.block, 1, kStripBlocks);
  return tile_shape(args, rows, std::min(blocks * inner.block, inner.size));
}

// Whether blocks are large, or few, so that several thread blocks have to share one.
bool shares_blocks(const FakeQuantizeArgs& args, const Launch& on) {
  constexpr std::int64_t kSmall = 1 << 17;
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t slab = args.slab_rows() * std::min(inner.block, inner.size);
  return slab > kLargestSlab ||
         (args.elements() > kSmall && whole_strips(args).tiles < on.multiprocessors);
}

// (blocks of scales in two levels are small; two passes would lose the parts of their scales)
bool takes_two_passes(const FakeQuantizeArgs& args, const Launch& on) {
  if (args.rule.scales == ScaleKind::kTwoLevels) return false;
  return walks_columns(args) || shares_blocks(args, on);
}

template <class T, Elements kKind>
void run_kind(const Problem<Arithmetic<T>>& problem, bool backward, const Launch& on) {
  constexpr int kVector = kVectorOf<T>;
  const std::int64_t row_pieces = divide_up(problem.inner().size, kVector);
  const std::int64_t all = problem.args.elements() / problem.inner().size * row_pieces;
  launch(on, elements_kernel<T, kVector, kKind>,
         divide_up(all, kElementThreads * kElementPieces<kKind>), kElementThreads, problem,
         Pieces{Divider(row_pieces), all, backward});
}

template <class T>
void run_elements(const Problem<Arithmetic<T>>& problem, bool backward, const Launch& on) {
  const FakeQuantizeArgs& args = problem.args;
  const QuantizeDim& inner = problem.inner();
  if (inner.block % kVectorOf<T> != 0 && inner.block < inner.size) {
    return run_kind<T, Elements::kNarrow>(problem, backward, on);
  }
  if (problem.rule.usual() && !problem.floating_zero && args.mask == nullptr &&
      has_short_zero_points(args)) {
    return run_kind<T, Elements::kUsual>(problem, backward, on);
  }
  if (args.mask == nullptr) return run_kind<T, Elements::kAny>(problem, backward, on);
  run_kind<T, Elements::kMask>(problem, backward, on);
}

// The team for groups of so many pieces: the widest of which few threads idle. None: no lanes.
GroupShape team_for(std::int64_t pieces, int most_rounds) {
  GroupShape shape = {};
  if (pieces > kWarp * most_rounds) {
    if (pieces > kMaxTeam * most_rounds) return shape;
    shape.lanes = static_cast<int>(divide_up(divide_up(pieces, most_rounds), kWarp)) * kWarp;
    shape.rounds = most_rounds;
    return shape;
  }
  std::int64_t least = INT64_MAX;  // threads' pieces
  for (int lanes = kWarp; lanes > 0; lanes /= 2) {
    const std::int64_t rounds = divide_up(pieces, lanes);
    if (rounds > most_rounds || lanes * rounds >= least) continue;
    least = lanes * rounds;
    shape.lanes = lanes;
    shape.rounds = 1;
    while (shape.rounds < rounds) shape.rounds *= 2;
    if (least * 4 <= pieces * 5) break;
  }
  return shape;
}

// Whether the problem is one of groups, and done.
template <class T, int kVector>
bool run_groups(const Problem<Arithmetic<T>>& problem, const Launch& on) {
  const QuantizeDim& inner = problem.inner();
  const bool usual = problem.rule.usual();
  if (problem.args.slab_rows() != 1 || (kVector == 1 && !usual)) return false;
  constexpr int kPieces = kGroupPieces<kVector>;
  const std::int64_t block = std::min(inner.block, inner.size);
  GroupShape shape = team_for(divide_up(block, kVector), kPieces);
  if (shape.lanes == 0) return false;
  shape.row = Divider(inner.blocks());
  shape.groups = problem.args.elements() / inner.size * inner.blocks();
  const int threads = shape.lanes > kWarp ? shape.lanes : kMinThreads;
  shape.teams = threads / shape.lanes;
  while ((1 << shape.lane_bits) < shape.lanes) ++shape.lane_bits;
  const std::int64_t next = shape.lanes * kVector;
  shape.next = {next * inner.input, next * inner.output, next * inner.index, 0, 0};
  const auto run = [&](auto kernel) {
    launch(on, kernel, divide_up(shape.groups, shape.stretch(kPieces)), threads, problem, shape);
  };
  if constexpr (kVector > 1) {
    if (!usual) {
      run(groups_kernel<T, kVector, false>);
      return true;
    }
  }
  run(groups_kernel<T, kVector, true>);
  return true;
}

// Two passes: extremes into the workspace, then results under what follows from them.
template <class T, int kVector>
void run_two_passes(FakeQuantizeArgs args, void* workspace, const Launch& on) {
  using A = Arithmetic<T>;
  const std::int64_t blocks = assign_block_strides(args);
  auto* const table = static_cast<Key<A>*>(workspace);
  const KeyTable<A> keys = {table, table + blocks};
  const auto bytes = static_cast<std::size_t>(2 * blocks) * sizeof(Key<A>);
  check(cudaMemsetAsync(workspace, 0, bytes, on.stream), "clearing a workspace");
  const Problem<A> dynamic(args, vectors_fit(args));
  find_extremes<T, kVector>(dynamic, keys, on);
  launch(on, choose_kernel<A>, divide_up(blocks, kThreads), kThreads, dynamic.rule, keys, blocks);
  args.scale = keys.max;
  if (!args.rule.symmetric || args.rule.zero_point != 0) args.zero_point = keys.min;
  args.zero_point_dtype = sizeof(A) == sizeof(double) ? DType::kFloat64 : DType::kFloat32;
  Problem<A> chosen(args, dynamic.whole);
  chosen.floating_zero = false;
  run_elements<T>(chosen, true, on);
}

template <class T, int kVector>
void run_dynamic(FakeQuantizeArgs args, void* workspace, const Launch& on) {
  if (args.rule.scales == ScaleKind::kTwoLevels) find_tensor_scale<T>(args, workspace, on);
  const Problem<Arithmetic<T>> problem(args, vectors_fit(args));
  if (run_groups<T, kVector>(problem, on)) return;
  if (takes_two_passes(args, on)) return run_two_passes<T, kVector>(args, workspace, on);
  const TileShape shape = whole_strips(args);
  launch(on, slabs_kernel<T, kVector>, shape.tiles, kThreads, problem, shape);
}

template <class T>
void run_as(const FakeQuantizeArgs& args, void* workspace, const Launch& on) {
  const QuantizeDim& inner = inner_of(args);
  if (!args.dynamic()) {
    return run_elements<T>(Problem<Arithmetic<T>>(args, vectors_fit(args)), false, on);
  }
  // No piece may be of two blocks, nor of two strips.
  const bool whole = inner.block % kVectorOf<T> == 0 || inner.block >= inner.size;
  return whole ? run_dynamic<T, kVectorOf<T>>(args, workspace, on)
               : run_dynamic<T, 1>(args, workspace, on);
}

}  // namespace
}  // namespace strop::quantize::cuda

namespace strop::quantize {

std::size_t workspace_bytes(const FakeQuantizeArgs& original, const Launch& on) {
  using namespace cuda;
  if (!original.dynamic() || original.elements() == 0) return 0;
  FakeQuantizeArgs args = simplified(original);
  if (args.rule.scales == ScaleKind::kTwoLevels) return kTensorScaleBytes;
  if (!takes_two_passes(args, on)) return 0;
  const std::size_t key = args.dtype == DType::kFloat64 ? sizeof(Key<double>) : sizeof(Key<float>);
  return static_cast<std::size_t>(2 * assign_block_strides(args)) * key;
}

void run(const FakeQuantizeArgs& original, void* workspace, const Launch& on) {
  if (original.elements() == 0) return;
  const FakeQuantizeArgs args = simplified(original);
  by_dtype(args.dtype, [&]<class T>() { cuda::run_as<T>(args, workspace, on); });
}

}  // namespace strop::quantize
