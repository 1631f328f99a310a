// fake_quantize on a GPU. Four kernels: elements under known parameters; groups in the registers of
// a warp; slabs in shared memory; extremes of blocks larger than that, for the first kernel.

#include <algorithm>

#include "cuda/mask.cuh"
#include "cuda/quantize.cuh"
#include "cuda/quantize.h"
#include "cuda/quantize_slab.cuh"
#include "kernels/quantize_arguments.h"

namespace strop::cuda {
namespace {

constexpr int kThreads = 256;
// Pieces that a thread has in flight.
constexpr int kHeld = 4;
// Blocks of more elements than this take two passes over memory.
constexpr std::int64_t kLargestSlab = 65536;

// Not inlined: its cases for zero points' types would be most of every kernel.
template <class A>
__device__ __noinline__ QuantizeParams<A> params_at(const FakeQuantizeArgs& args,
                                                    const KeyTable<A>& keys, std::int64_t scale,
                                                    std::int64_t zero_point) {
  if (keys.max == nullptr) return given_params<A>(args, scale, zero_point);
  return chosen_params<A>({keys.min[scale], keys.max[scale]}, args);
}

template <class A>
__device__ __forceinline__ QuantizeParams<A> params_of(const FakeQuantizeArgs& args,
                                                       const KeyTable<A>& keys, const Row& row,
                                                       std::int64_t block) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  return params_at(args, keys, row.scale + block * inner.scale,
                   row.zero_point + block * inner.zero_point);
}

// A piece whose elements may be of several blocks.
template <bool kHalfEven, class T, int kVector>
__device__ __forceinline__ unsigned quantize_across(Piece<T, kVector>& piece,
                                                    const FakeQuantizeArgs& args,
                                                    const KeyTable<Arithmetic<T>>& keys) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t block = quotient(piece.column, inner.block);
  if (piece.column + piece.count <= (block + 1) * inner.block) {
    const auto params = params_of(args, keys, piece.row, block);
    return quantize_piece<kHalfEven>(piece, params, args);
  }
  unsigned bits = 0;
  for (int i = 0; i < kVector; ++i) {  // unrolled: the elements are in registers
    if (i >= piece.count) break;
    const std::int64_t column = piece.column + i;
    const auto params = params_of(args, keys, piece.row, quotient(column, inner.block));
    const auto result = quantized_by_rule(widened(piece.x.lane[i]), params, args,
                                          piece.row.index + column * inner.index);
    piece.x.lane[i] = narrowed<T>(result.value);
    if (result.in_range) bits |= 1u << i;
  }
  return bits;
}

// Elements under parameters that are given, or follow from a table of extremes.
template <class T, int kVector, bool kHalfEven>
__global__ void __launch_bounds__(kThreads)
    elements_kernel(const __grid_constant__ FakeQuantizeArgs args,
                    const __grid_constant__ KeyTable<Arithmetic<T>> keys, std::int64_t row_pieces,
                    std::int64_t pieces) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  const std::int64_t mine = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  // Whole warps stay in the loop, for the shuffles of write_mask.
  for (std::int64_t base = mine - lane_id(); base < pieces; base += kHeld * step) {
    Piece<T, kVector> held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      Piece<T, kVector>& piece = held[i];
      const std::int64_t number = base + i * step + lane_id();
      piece.count = 0;
      if (number >= pieces) continue;
      const std::int64_t row = args.dims == 1 ? 0 : quotient(number, row_pieces);
      piece.row = row_at(args, row);
      piece.column = (number - row * row_pieces) * kVector;
      const std::int64_t left = inner.size - piece.column;
      piece.count = left < kVector ? static_cast<int>(left) : kVector;
      piece.load(args);
    }
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      Piece<T, kVector>& piece = held[i];
      unsigned bits = 0;
      if (piece.count > 0) {
        bits = quantize_across<kHalfEven>(piece, args, keys);
        piece.store(args);
      }
      if (args.mask == nullptr) continue;
      const std::int64_t at = piece.count > 0 ? piece.row.output + piece.column * inner.output : -1;
      write_mask<kVector>(args.mask, at, inner.output, bits, piece.count);
    }
  }
}

// Groups that a warp holds in registers from load to store: of `lanes` lanes' `rounds` vectors.
struct GroupShape {
  int lanes;   // 0: not such a group
  int rounds;  // 1, 2 or 4; of more than 1, a group takes the whole warp
};

// What each held piece's group has: as many of the pieces make one group as there are rounds.
template <class A>
__device__ __forceinline__ void join_rounds(Extremes<A> (&found)[kHeld], int rounds) {
  static_assert(kHeld == 4);
  if (rounds == 1) return;
  found[0].join(found[1]);
  found[2].join(found[3]);
  if (rounds == 4) {
    found[0].join(found[2]);
    found[2] = found[0];
  }
  found[1] = found[0];
  found[3] = found[2];
}

template <class T, int kVector, bool kHalfEven>
__global__ void __launch_bounds__(kThreads)
    groups_kernel(const __grid_constant__ FakeQuantizeArgs args, GroupShape shape,
                  std::int64_t row_pieces, std::int64_t pieces) {
  using A = Arithmetic<T>;
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t warps = std::int64_t{gridDim.x} * blockDim.x / kWarp;
  const std::int64_t warp = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp;
  for (std::int64_t first = warp * kHeld * kWarp; first < pieces; first += warps * kHeld * kWarp) {
    Piece<T, kVector> held[kHeld];
    Extremes<A> found[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      Piece<T, kVector>& piece = held[i];
      const std::int64_t number = first + i * kWarp + lane_id();
      piece.count = 0;
      if (number >= pieces) continue;
      const std::int64_t row = args.dims == 1 ? 0 : quotient(number, row_pieces);
      piece.column = (number - row * row_pieces) * kVector;
      const std::int64_t left = inner.size - piece.column;
      if (left <= 0) continue;  // of a short last group
      piece.count = left < kVector ? static_cast<int>(left) : kVector;
      piece.row = row_at(args, row);
      piece.load(args);
    }
#pragma unroll
    for (int i = 0; i < kHeld; ++i) found[i] = held[i].extremes(args.rule.symmetric);
    join_rounds(found, shape.rounds);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const auto of_group = extremes_of_lanes(found[i], shape.lanes, args.rule.symmetric);
      if (held[i].count == 0) continue;
      quantize_piece<kHalfEven>(held[i], chosen_params<A>(of_group, args), args);
      held[i].store(args);
    }
  }
}

// Strips of whole blocks: extremes into shared memory, then results, from the cache.
template <class T, int kVector, bool kHalfEven>
__global__ void __launch_bounds__(kThreads)
    slabs_kernel(const __grid_constant__ FakeQuantizeArgs args,
                 const __grid_constant__ TileShape shape) {
  using A = Arithmetic<T>;
  __shared__ Strip strip;
  __shared__ StripExtremes<A> extremes;
  __shared__ QuantizeParams<A> params[kStripBlocks];
  for (std::int64_t number = blockIdx.x; number < shape.tiles; number += gridDim.x) {
    extremes.template find<T, kVector>(args, shape, number, strip);
    for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += blockDim.x) {
      params[i] = chosen_params<A>({extremes.min[i], extremes.max[i]}, args);
    }
    __syncthreads();
    const std::int64_t width = args.dim[args.dims - 1].block;
    for_each_piece<T, kVector>(args, strip, [&](Piece<T, kVector>& piece) {
      const std::int64_t block = quotient(piece.column, width) - strip.first_block;
      quantize_piece<kHalfEven>(piece, params[block], args);
      piece.store(args);
    });
  }
}

// Extremes of strips of any rows and columns, into a table that is 0 before.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads)
    extremes_kernel(const __grid_constant__ FakeQuantizeArgs args,
                    const __grid_constant__ KeyTable<Arithmetic<T>> keys,
                    const __grid_constant__ TileShape shape) {
  using A = Arithmetic<T>;
  __shared__ Strip strip;
  __shared__ StripExtremes<A> extremes;
  for (std::int64_t number = blockIdx.x; number < shape.tiles; number += gridDim.x) {
    extremes.template find<T, kVector>(args, shape, number, strip);
    const std::int64_t step = args.dim[args.dims - 1].scale;
    for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += blockDim.x) {
      const std::int64_t at = strip.origin.scale + (strip.first_block + i) * step;
      if (extremes.max[i] > 0) atomicMax(keys.max + at, extremes.max[i]);
      if (extremes.min[i] < 0) atomicMin(keys.min + at, extremes.min[i]);
    }
  }
}

// The upper level of scales in two levels.
template <class A>
__global__ void tensor_scale_kernel(KeyTable<A> keys, const __grid_constant__ QuantizeRule rule,
                                    A* scale) {
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  *scale = choose_tensor_scale<A>(key_value(flipped(keys.max[0])), rule);
}

const QuantizeDim& inner_of(const FakeQuantizeArgs& args) { return args.dim[args.dims - 1]; }

// Whether rows may be read and written 16 bytes at a time.
bool vectors_fit(const FakeQuantizeArgs& args) {
  const QuantizeDim& inner = inner_of(args);
  if (inner.input != 1 || inner.output != 1) return false;
  const auto aligned = [](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % kVectorBytes == 0;
  };
  if (!aligned(args.input) || !aligned(args.output)) return false;
  const std::int64_t lanes = kVectorBytes / dtype_size(args.dtype);
  for (int d = 0; d + 1 < args.dims; ++d) {
    if (args.dim[d].input % lanes != 0 || args.dim[d].output % lanes != 0) return false;
  }
  return true;
}

// Strips of whole blocks and of all rows of a slab.
TileShape whole_strips(const FakeQuantizeArgs& args) {
  constexpr std::int64_t kElements = 8192, kLeastColumns = 64;
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t rows = args.slab_rows();
  const std::int64_t wanted = std::max(kElements / rows, kLeastColumns);
  const std::int64_t blocks = std::clamp<std::int64_t>(wanted / inner.block, 1, kStripBlocks);
  return tile_shape(args, rows, std::min(blocks * inner.block, inner.size));
}

// Strips for extremes alone, which need not hold whole blocks.
TileShape free_strips(const FakeQuantizeArgs& args) {
  constexpr std::int64_t kElements = 16384, kColumns = 4096;
  const QuantizeDim& inner = inner_of(args);
  std::int64_t columns = std::min(inner.size, kColumns);
  if (inner.block < columns) {
    columns = std::min({columns / inner.block, std::int64_t{kStripBlocks}, inner.blocks()});
    columns = std::min(columns * inner.block, inner.size);
  }
  return tile_shape(args, std::clamp<std::int64_t>(kElements / columns, 1, args.slab_rows()),
                    columns);
}

// Whether blocks are large, or few, so that several thread blocks have to share one.
bool shares_blocks(const FakeQuantizeArgs& args, const Launch& on) {
  constexpr std::int64_t kSmall = 1 << 17;
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t slab = args.slab_rows() * std::min(inner.block, inner.size);
  return slab > kLargestSlab ||
         (args.elements() > kSmall && whole_strips(args).tiles < on.multiprocessors);
}

template <class T, int kVector, bool kHalfEven>
void run_elements(const FakeQuantizeArgs& args, const KeyTable<Arithmetic<T>>& keys,
                  const Launch& on) {
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t row_pieces = divide_up(inner.size, kVector);
  const std::int64_t pieces = args.elements() / inner.size * row_pieces;
  launch(on, elements_kernel<T, kVector, kHalfEven>, divide_up(pieces, kThreads * kHeld), kThreads,
         args, keys, row_pieces, pieces);
}

GroupShape group_shape(const FakeQuantizeArgs& args) {
  const std::int64_t vector = kVectorBytes / dtype_size(args.dtype);
  const std::int64_t block = inner_of(args).block;
  const std::int64_t vectors = block / vector;
  if (args.slab_rows() != 1 || block % vector != 0 || (vectors & (vectors - 1)) != 0) return {0, 1};
  if (vectors <= kWarp) return {static_cast<int>(vectors), 1};
  if (vectors <= kHeld * kWarp) return {kWarp, static_cast<int>(vectors / kWarp)};
  return {0, 1};
}

template <class T, int kVector, bool kHalfEven>
void run_groups(const FakeQuantizeArgs& args, const GroupShape& shape, const Launch& on) {
  const std::int64_t row_pieces = inner_of(args).blocks() * shape.lanes * shape.rounds;
  const std::int64_t pieces = args.elements() / inner_of(args).size * row_pieces;
  launch(on, groups_kernel<T, kVector, kHalfEven>, divide_up(pieces, kThreads * kHeld), kThreads,
         args, shape, row_pieces, pieces);
}

// Two passes: extremes into the workspace, then results under what follows from them.
template <class T, int kVector, bool kHalfEven>
void run_shared(FakeQuantizeArgs args, void* workspace, const Launch& on) {
  using A = Arithmetic<T>;
  const std::int64_t blocks = number_blocks(args);
  auto* const table = static_cast<Key<A>*>(workspace);
  const KeyTable<A> keys = {table, table + blocks};
  const auto bytes = static_cast<std::size_t>(2 * blocks) * sizeof(Key<A>);
  check(cudaMemsetAsync(workspace, 0, bytes, on.stream), "clearing a workspace");
  const TileShape shape = free_strips(args);
  launch(on, extremes_kernel<T, kVector>, shape.tiles, kThreads, args, keys, shape);
  run_elements<T, kVector, kHalfEven>(args, keys, on);
}

// What a workspace begins with: the scale of the tensor, and the extremes that it follows from.
template <class A>
struct TensorScale {
  A scale;
  Key<A> min;
  Key<A> max;
};
constexpr std::size_t kTensorScaleBytes = 32;

template <class T, int kVector>
void find_tensor_scale(FakeQuantizeArgs& args, void* workspace, const Launch& on) {
  using A = Arithmetic<T>;
  static_assert(sizeof(TensorScale<A>) <= kTensorScaleBytes);
  check(cudaMemsetAsync(workspace, 0, kTensorScaleBytes, on.stream), "clearing a workspace");
  auto* const found = static_cast<TensorScale<A>*>(workspace);
  const KeyTable<A> keys = {&found->min, &found->max};
  FakeQuantizeArgs whole = args;
  for (int d = 0; d < whole.dims; ++d) whole.dim[d].block = whole.dim[d].size;
  number_blocks(whole);
  const TileShape shape = free_strips(whole);
  launch(on, extremes_kernel<T, kVector>, shape.tiles, kThreads, whole, keys, shape);
  launch(on, tensor_scale_kernel<A>, 1, kWarp, keys, args.rule, &found->scale);
  args.tensor_scale = &found->scale;
}

template <class T, int kVector, bool kHalfEven>
void run(FakeQuantizeArgs args, void* workspace, const Launch& on) {
  if (!args.dynamic()) return run_elements<T, kVector, kHalfEven>(args, {}, on);
  if (args.rule.scales == ScaleKind::kTwoLevels) {
    find_tensor_scale<T, kVector>(args, workspace, on);
    workspace = static_cast<char*>(workspace) + kTensorScaleBytes;
  }
  if constexpr (kVector > 1) {
    const GroupShape group = group_shape(args);
    if (group.lanes > 0) return run_groups<T, kVector, kHalfEven>(args, group, on);
  }
  if (shares_blocks(args, on)) return run_shared<T, kVector, kHalfEven>(args, workspace, on);
  const TileShape shape = whole_strips(args);
  launch(on, slabs_kernel<T, kVector, kHalfEven>, shape.tiles, kThreads, args, shape);
}

template <class T>
void run_on(const FakeQuantizeArgs& args, void* workspace, const Launch& on) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  // In a dynamic problem no vector may be of two blocks, nor of two strips.
  const bool vectors =
      vectors_fit(args) && (!args.dynamic() || inner_of(args).block % kVector == 0 ||
                            inner_of(args).block >= inner_of(args).size);
  if (!vectors) return run<T, 1, false>(args, workspace, on);
  if (args.rule.rounding != Rounding::kHalfEven) return run<T, kVector, false>(args, workspace, on);
  return run<T, kVector, true>(args, workspace, on);
}

}  // namespace

std::size_t fake_quantize_workspace(const FakeQuantizeArgs& original, const Launch& on) {
  if (!original.dynamic() || original.elements() == 0) return 0;
  FakeQuantizeArgs args = simplified(original);
  const std::size_t head =
      args.rule.scales == ScaleKind::kTwoLevels ? kTensorScaleBytes : std::size_t{0};
  if (!shares_blocks(args, on)) return head;
  const std::size_t key = args.dtype == DType::kFloat64 ? sizeof(Key<double>) : sizeof(Key<float>);
  return head + static_cast<std::size_t>(2 * number_blocks(args)) * key;
}

void fake_quantize(const FakeQuantizeArgs& original, void* workspace, const Launch& on) {
  if (original.elements() == 0) return;
  const FakeQuantizeArgs args = simplified(original);
  switch (args.dtype) {
    case DType::kBFloat16:
      return run_on<BFloat16>(args, workspace, on);
    case DType::kFloat16:
      return run_on<Float16>(args, workspace, on);
    case DType::kFloat64:
      return run_on<double>(args, workspace, on);
    default:
      return run_on<float>(args, workspace, on);
  }
}

}  // namespace strop::cuda
