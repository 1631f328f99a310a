#pragma once

// Elements under parameters that are given.

#include "core/cuda/mask.cuh"
#include "quantize/cuda/values.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

inline constexpr int kElementThreads = 256;

// What a kernel for elements has to reckon with.
enum class Elements {
  kUsual,   // to nearest, ties to even; short zero points; no mask
  kAny,     // the other roundings and zero points
  kMask,    // the same, and a mask
  kNarrow,  // all of that, and pieces with elements of several blocks
};

// Pieces that a thread has in flight: all their arithmetic is unrolled, and their parameters are in
// registers.
template <Elements kKind>
inline constexpr int kElementPieces = kKind == Elements::kUsual ? 4 : 2;

// Whether zero points are integers that ZeroPoint holds as they are, or need no conversion.
inline __host__ __device__ bool has_short_zero_points(const FakeQuantizeArgs& args) {
  const DType dtype = args.zero_point_dtype;
  return args.zero_point == nullptr || dtype == DType::kFloat32 || dtype == DType::kInt32 ||
         (is_integer(dtype) && dtype < DType::kUInt32);
}

// A zero point on its way from memory: converting it at once would mean to wait for it. kShort:
// has_short_zero_points, which is known at compile time.
template <class A, bool kShort>
struct ZeroPoint {
  A held = 0;  // of an integer, the bits

  __device__ __forceinline__ void load(const FakeQuantizeArgs& args, std::int64_t at) {
    if (args.zero_point == nullptr) return;
    if constexpr (std::is_same_v<A, double>) {
      held = read_zero_point<A>(args.zero_point, args.zero_point_dtype, at);
    } else if (kShort || has_short_zero_points(args)) {
      held = __int_as_float(word_at(args.zero_point, args.zero_point_dtype, at));
    } else {
      held = read_zero_point<A>(args.zero_point, args.zero_point_dtype, at);
    }
  }

  __device__ __forceinline__ A value(const FakeQuantizeArgs& args) const {
    if constexpr (std::is_same_v<A, float>) {
      const bool is_word = is_integer(args.zero_point_dtype);
      if (is_word && (kShort || has_short_zero_points(args))) {
        return static_cast<float>(__float_as_int(held));
      }
    }
    return held;
  }

 private:
  static __device__ __forceinline__ int word_at(const void* data, DType dtype, std::int64_t at) {
    switch (dtype) {
      case DType::kUInt8:
        return static_cast<const std::uint8_t*>(data)[at];
      case DType::kInt8:
        return static_cast<const std::int8_t*>(data)[at];
      case DType::kUInt16:
        return static_cast<const std::uint16_t*>(data)[at];
      case DType::kInt16:
        return static_cast<const std::int16_t*>(data)[at];
      case DType::kFloat32:
        return __float_as_int(static_cast<const float*>(data)[at]);
      default:
        return static_cast<const int*>(data)[at];
    }
  }
};

// The parameters of a piece's elements, which are of one block.
template <class A, bool kShort>
struct BlockParams {
  A scale = 0;
  ZeroPoint<A, kShort> zero;

  // Of the piece that begins at a column of a row.
  __device__ __forceinline__ void load(const Problem<A>& problem, Place row, std::int64_t column,
                                       int) {
    row.move_blocks(problem.inner(), problem.block_of(column));
    scale = static_cast<const A*>(problem.args.scale)[row.scale];
    zero.load(problem.args, row.zero_point);
  }

  // A function of an element.
  __device__ __forceinline__ auto of_elements(const Problem<A>& problem) const {
    const QuantizeParams<A> params = {A(1) / scale, scale, zero.value(problem.args)};
    return [params](int) { return params; };
  }
};

// Where they may be of several.
template <class A, int kVector>
struct LaneParams {
  A scale[kVector] = {};
  A zero[kVector] = {};

  __device__ __forceinline__ void load(const Problem<A>& problem, Place row, std::int64_t column,
                                       int count) {
    const QuantizeDim& inner = problem.inner();
    const std::int64_t block = problem.block_of(column);
    row.move_blocks(inner, block);
    // Blocks wider than a piece are as good as one wider: n / width is exact for so small numbers.
    const int width = elements_left<kVector + 1>(inner.block);
    const int inverse = 65536 / width + 1;
    const int begin = width - elements_left<kVector + 1>((block + 1) * inner.block - column);
    const auto block_at = [&](int i) { return (begin + i) * inverse >> 16; };
    const A* const from = static_cast<const A*>(problem.args.scale) + row.scale;
    for (int i = 0; i < kVector; ++i) {
      if (i < count) scale[i] = from[block_at(i) * inner.scale];
    }
    if (problem.args.zero_point == nullptr) return;
    for (int i = 0; i < kVector; ++i) {
      if (i >= count) break;
      zero[i] = zero_point_at<A>(problem.args, row.zero_point + block_at(i) * inner.zero_point);
    }
  }

  __device__ __forceinline__ auto of_elements(const Problem<A>&) const {
    return [this](int i) { return QuantizeParams<A>{A(1) / scale[i], scale[i], zero[i]}; };
  }
};

// How pieces are numbered: row by row.
struct Pieces {
  Divider row;  // by a row's pieces
  std::int64_t all;
  bool backward;  // from the last stretch on, which may still be in the cache
};

// Each thread block takes stretches of some pieces a thread.
template <class T, int kVector, Elements kKind>
__global__ void __launch_bounds__(kElementThreads, kKind == Elements::kNarrow ? 3 : 4)
    elements_kernel(const __grid_constant__ Problem<Arithmetic<T>> problem,
                    const __grid_constant__ Pieces pieces) {
  using A = Arithmetic<T>;
  constexpr bool kUsual = kKind == Elements::kUsual;
  constexpr bool kMask = kKind >= Elements::kMask;
  constexpr int kPieces = kElementPieces<kKind>;
  constexpr std::int64_t kStretch = kElementThreads * kPieces;
  using Params = std::conditional_t<kKind == Elements::kNarrow, LaneParams<A, kVector>,
                                    BlockParams<A, kUsual>>;
  const std::int64_t stretches = divide_up(pieces.all, kStretch);
  for (std::int64_t i = blockIdx.x; i < stretches; i += gridDim.x) {
    const std::int64_t first = (pieces.backward ? stretches - 1 - i : i) * kStretch + threadIdx.x;
    Piece<T, kVector> held[kPieces];
    Params params[kPieces];
    Place row = {};
    std::int64_t at = pieces.row.divisor();  // in the row: the first piece finds its own
#pragma unroll
    for (int k = 0; k < kPieces; ++k) {
      if (at >= pieces.row.divisor()) {
        const std::int64_t number = first + k * kElementThreads;
        if (number >= pieces.all) continue;
        const std::int64_t row_number = pieces.row.quotient(number);
        at = number - row_number * pieces.row.divisor();
        row = row_at(problem, row_number);
      }
      const std::int64_t column = at * kVector;
      Place place = row;
      place.move_to(problem.inner(), column, problem.whole);
      held[k].load(problem, place, elements_left<kVector>(problem.inner().size - column));
      params[k].load(problem, row, column, held[k].count);
      at += kElementThreads;
    }
#pragma unroll
    for (int k = 0; k < kPieces; ++k) {
      Piece<T, kVector>& piece = held[k];
      unsigned bits = 0;
      if (piece.count > 0) {
        const auto params_of = params[k].of_elements(problem);
        if (kKind == Elements::kMask || (kMask && problem.args.mask != nullptr)) {
          bits = quantize_piece<kUsual, true>(piece, problem, params_of);
        } else {
          quantize_piece<kUsual, false>(piece, problem, params_of);
        }
        piece.store(problem);
      }
      // Whole warps are here, for the shuffles of write_mask.
      if (!kMask || problem.args.mask == nullptr) continue;
      write_mask<kVector>(problem.args.mask, piece.count > 0 ? piece.output : -1,
                          problem.inner().output, bits, piece.count);
    }
  }
}

}  // namespace strop::quantize::cuda
