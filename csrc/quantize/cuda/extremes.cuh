#pragma once

// Extremes of all blocks of a problem, in memory. The host's part is here as well: it is the same
// for whatever is made of them.

#include <algorithm>

#include "core/cuda/launch.h"
#include "quantize/arguments.h"
#include "quantize/cuda/columns.cuh"
#include "quantize/cuda/slab.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

inline constexpr int kThreads = 256;
template <class T>
inline constexpr int kVectorOf = kVectorBytes / static_cast<int>(sizeof(T));

// Extremes of strips of any rows and columns, into a table that is 0 before.
template <class T, int kVector>
__global__ void __launch_bounds__(kThreads, 4)
    extremes_kernel(const __grid_constant__ Problem<Arithmetic<T>> problem,
                    const __grid_constant__ KeyTable<Arithmetic<T>> keys,
                    const __grid_constant__ TileShape shape) {
  using A = Arithmetic<T>;
  __shared__ Strip strip;
  __shared__ StripExtremes<A> extremes;
  for (std::int64_t number = blockIdx.x; number < shape.tiles; number += gridDim.x) {
    extremes.template find<T, kVector>(problem, shape, number, strip);
    for (int i = static_cast<int>(threadIdx.x); i < strip.blocks; i += blockDim.x) {
      const std::int64_t at = strip.origin.scale + (strip.first_block + i) * problem.inner().scale;
      keys.add(at, extremes.min[i], extremes.max[i]);
    }
  }
}

// The upper level of scales in two levels.
template <class A>
__global__ void tensor_scale_kernel(const __grid_constant__ RuleNumbers<A> rule, KeyTable<A> keys,
                                    A* scale) {
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  *scale = choose_tensor_scale<A>(key_value(flipped(keys.max[0])), rule);
}

inline const QuantizeDim& inner_of(const FakeQuantizeArgs& args) { return args.dim[args.dims - 1]; }

// Whether rows may be read 16 bytes at a time; and written.
inline bool rows_are_vectors(const FakeQuantizeArgs& args, const void* tensor,
                             std::int64_t QuantizeDim::* step) {
  if (inner_of(args).*step != 1) return false;
  if (reinterpret_cast<std::uintptr_t>(tensor) % kVectorBytes != 0) return false;
  const std::int64_t lanes = kVectorBytes / dtype_size(args.dtype);
  for (int d = 0; d + 1 < args.dims; ++d) {
    if (args.dim[d].*step % lanes != 0) return false;
  }
  return true;
}

inline bool input_vectors_fit(const FakeQuantizeArgs& args) {
  return rows_are_vectors(args, args.input, &QuantizeDim::input);
}

inline bool output_vectors_fit(const FakeQuantizeArgs& args) {
  return rows_are_vectors(args, args.output, &QuantizeDim::output);
}

inline bool vectors_fit(const FakeQuantizeArgs& args) {
  return input_vectors_fit(args) && output_vectors_fit(args);
}

// Strips for extremes alone, which need not hold whole blocks: as large as leaves each
// multiprocessor a few.
inline TileShape free_strips(const FakeQuantizeArgs& args, const Launch& on) {
  constexpr std::int64_t kMin = 4096, kMax = 65536, kEach = 16;
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t share = args.elements() / (on.multiprocessors * kEach) / kMin * kMin;
  const std::int64_t elements = std::clamp(share, kMin, kMax);
  std::int64_t columns = std::min(inner.size, elements);
  if (inner.block < columns) {
    columns = std::min({columns / inner.block, std::int64_t{kStripBlocks}, inner.blocks()});
    columns = std::min(columns * inner.block, inner.size);
  }
  return tile_shape(args, std::clamp<std::int64_t>(elements / columns, 1, args.slab_rows()),
                    columns);
}

// Whether blocks are of many rows and so narrow that a vector may be of several of them: strips of
// them would be read an element at a time.
inline bool walks_columns(const FakeQuantizeArgs& args) {
  constexpr std::int64_t kFewRows = 32, kSmall = 1 << 17;
  const QuantizeDim& inner = inner_of(args);
  const std::int64_t lanes = kVectorBytes / dtype_size(args.dtype);
  return args.slab_rows() >= kFewRows && args.elements() > kSmall && inner.block < inner.size &&
         inner.block % lanes != 0;
}

// Of a problem whose blocks are numbered (number_blocks), into a table that is 0 before. kVector:
// of pieces that are of one block each.
template <class T, int kVector>
void find_extremes(const Problem<Arithmetic<T>>& problem, const KeyTable<Arithmetic<T>>& keys,
                   const Launch& on) {
  const FakeQuantizeArgs& args = problem.args;
  if (walks_columns(args)) {
    constexpr std::int64_t kElements = 32768, kColumns = kWarp * kVectorOf<T>;
    const std::int64_t rows = std::min(args.slab_rows(), kElements / kColumns);
    const TileShape shape = tile_shape(args, rows, std::min(kColumns, inner_of(args).size));
    launch(on, columns_kernel<T, kVectorOf<T>>, shape.tiles, kColumnThreads, problem, keys, shape);
  } else {
    const TileShape shape = free_strips(args, on);
    launch(on, extremes_kernel<T, kVector>, shape.tiles, kThreads, problem, keys, shape);
  }
}

// What a workspace begins with: the scale of the tensor, and the extremes that it follows from.
template <class A>
struct TensorScale {
  A scale;
  Key<A> min;
  Key<A> max;
};
inline constexpr std::size_t kTensorScaleBytes = 32;

template <class T>
void find_tensor_scale(FakeQuantizeArgs& args, void* workspace, const Launch& on) {
  using A = Arithmetic<T>;
  static_assert(sizeof(TensorScale<A>) <= kTensorScaleBytes);
  check(cudaMemsetAsync(workspace, 0, kTensorScaleBytes, on.stream), "clearing a workspace");
  auto* const found = static_cast<TensorScale<A>*>(workspace);
  const KeyTable<A> keys = {&found->min, &found->max};
  FakeQuantizeArgs whole = args;
  for (int d = 0; d < whole.dims; ++d) whole.dim[d].block = whole.dim[d].size;
  whole = simplified(whole);
  assign_block_strides(whole);
  const Problem<A> problem(whole, input_vectors_fit(whole));
  find_extremes<T, kVectorOf<T>>(problem, keys, on);
  launch(on, tensor_scale_kernel<A>, 1, kWarp, problem.rule, keys, &found->scale);
  args.tensor_scale = &found->scale;
}

}  // namespace strop::quantize::cuda
