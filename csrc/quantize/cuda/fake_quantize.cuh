#pragma once

// Device parts of the quantize kernels: where elements lie, their parameters, their arithmetic.

#include "core/cuda/divider.cuh"
#include "core/cuda/vector.cuh"
#include "quantize/fake_quantize.h"

namespace strop::quantize::cuda {
using namespace strop::cuda;

// A rule whose numbers are of the type of the arithmetic: a conversion from double takes as long as
// sixteen sums.
template <class A>
struct RuleNumbers {
  A quant_min;
  A quant_max;
  A eps;
  A zero_point;
  A half;
  A whole;
  FloatGrid<A> floats;  // of a float format
  FloatBits layout;
  const A* tensor_scale;  // the upper one of scales in two levels
  int bits;
  int max_exponent;
  Rounding rounding;
  Grid grid;
  ScaleKind scales;
  bool is_signed;
  bool symmetric;
  bool unbounded;

  RuleNumbers(const QuantizeRule& rule, const void* of_tensor)
      : quant_min(number<A>(rule.quant_min)),
        quant_max(number<A>(rule.quant_max)),
        eps(number<A>(rule.eps)),
        zero_point(number<A>(rule.zero_point)),
        half(number<A>(rule.half_range())),
        whole(number<A>(rule.range())),
        floats{},
        layout(rule.layout),
        tensor_scale(static_cast<const A*>(of_tensor)),
        bits(rule.bits),
        max_exponent(rule.max_exponent),
        rounding(rule.rounding),
        grid(rule.grid),
        scales(rule.scales),
        is_signed(rule.is_signed),
        symmetric(rule.symmetric),
        unbounded(rule.unbounded()) {
    if (grid == Grid::kFloat) floats = float_grid<A>(rule);
  }

  // To nearest, ties to even, in an integer format: what most kernels are fastest at.
  __host__ __device__ __forceinline__ bool usual() const {
    return rounding == Rounding::kHalfEven && grid == Grid::kInteger;
  }

  __device__ __forceinline__ A half_range() const { return half; }
  __device__ __forceinline__ A range() const { return whole; }
};

// A simplified problem, as kernels want it.
template <class A>
struct Problem {
  FakeQuantizeArgs args;
  RuleNumbers<A> rule;
  bool floating_zero;
  bool whole;  // kVectorBytes of a row's elements are read and written at once
  Divider by_size[kMaxDims];
  Divider by_block[kMaxDims];

  Problem(const FakeQuantizeArgs& simplified, bool vectors)
      : args(simplified),
        rule(simplified.rule, simplified.tensor_scale),
        floating_zero(simplified.zero_point_is_floating()),
        whole(vectors) {
    for (int d = 0; d < args.dims; ++d) {
      by_size[d] = Divider(args.dim[d].size);
      by_block[d] = Divider(args.dim[d].block);
    }
  }

  __host__ __device__ __forceinline__ const QuantizeDim& inner() const {
    return args.dim[args.dims - 1];
  }
  // Of a column: its block along the inner dimension.
  __device__ __forceinline__ std::int64_t block_of(std::int64_t column) const {
    return inner().block >= inner().size ? 0 : by_block[args.dims - 1].quotient(column);
  }
};

__device__ __forceinline__ double larger(double a, double b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ double smaller(double a, double b) { return a < b || a != a ? a : b; }

// Both extremes of some elements and of 0, NaN where one of them is; of |x| for a symmetric rule,
// which has no smallest.
template <class A>
struct Extremes {
  A min = 0;
  A max = 0;

  __device__ __forceinline__ void take(A x, bool symmetric) {
    max = larger(max, symmetric ? magnitude(x) : x);
    if (!symmetric) min = smaller(min, x);
  }
  __device__ __forceinline__ void join(const Extremes& other, bool symmetric) {
    max = larger(max, other.max);
    if (!symmetric) min = smaller(min, other.min);
  }
};

// The extremes of 2, 4, ... 32 neighbouring lanes, known to each of them.
template <class A>
__device__ __forceinline__ Extremes<A> extremes_of_lanes(Extremes<A> found, int lanes,
                                                         bool symmetric) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    Extremes<A> other;
    other.max = __shfl_xor_sync(kAllLanes, found.max, offset);
    if (!symmetric) other.min = __shfl_xor_sync(kAllLanes, found.min, offset);
    found.join(other, symmetric);
  }
  return found;
}

// Not inlined: a few divisions of a block's, which few blocks need.
template <class A>
__device__ __noinline__ QuantizeParams<A> chosen_byte_params(A amax, const RuleNumbers<A>& rule) {
  return choose_params<A>(amax, amax, rule.tensor_scale == nullptr ? A(1) : *rule.tensor_scale,
                          rule);
}

template <class A>
__device__ __forceinline__ QuantizeParams<A> chosen_params(const Extremes<A>& found,
                                                           const RuleNumbers<A>& rule) {
  if (rule.scales != ScaleKind::kAny) return chosen_byte_params(found.max, rule);
  return rule.symmetric ? choose_symmetric<A>(found.max, rule)
                        : choose_asymmetric<A>(found.min, found.max, rule);
}

// Not inlined: its cases would be most of every kernel.
template <class A>
__device__ __noinline__ A read_zero_point(const void* data, DType dtype, std::int64_t at) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<A>(static_cast<const float*>(data)[at]);
    case DType::kFloat64:
      return static_cast<A>(static_cast<const double*>(data)[at]);
    case DType::kUInt8:
      return static_cast<A>(static_cast<const std::uint8_t*>(data)[at]);
    case DType::kInt8:
      return static_cast<A>(static_cast<const std::int8_t*>(data)[at]);
    case DType::kUInt16:
      return static_cast<A>(static_cast<const std::uint16_t*>(data)[at]);
    case DType::kInt16:
      return static_cast<A>(static_cast<const std::int16_t*>(data)[at]);
    case DType::kUInt32:
      return static_cast<A>(static_cast<const std::uint32_t*>(data)[at]);
    case DType::kInt32:
      return static_cast<A>(static_cast<const std::int32_t*>(data)[at]);
    case DType::kUInt64:
      return static_cast<A>(static_cast<const std::uint64_t*>(data)[at]);
    default:
      return static_cast<A>(static_cast<const std::int64_t*>(data)[at]);
  }
}

template <class A>
__device__ __forceinline__ A zero_point_at(const FakeQuantizeArgs& args, std::int64_t at) {
  if (args.zero_point == nullptr) return A(0);
  return read_zero_point<A>(args.zero_point, args.zero_point_dtype, at);
}

template <class A>
__device__ __forceinline__ QuantizeParams<A> given_params(const FakeQuantizeArgs& args,
                                                          std::int64_t scale_at,
                                                          std::int64_t zero_at) {
  const A scale = static_cast<const A*>(args.scale)[scale_at];
  return {A(1) / scale, scale, zero_point_at<A>(args, zero_at)};
}

// Offsets of an element, and of its block's parameters: of a row, those of its column 0.
struct Place {
  std::int64_t input;
  std::int64_t output;
  std::int64_t index;
  std::int64_t scale;
  std::int64_t zero_point;

  __device__ __forceinline__ void move(const QuantizeDim& dim, std::int64_t elements) {
    input += elements * dim.input;
    output += elements * dim.output;
    index += elements * dim.index;
  }
  // Of offsets, those of elements.
  __device__ __forceinline__ void add(const Place& offset) {
    input += offset.input;
    output += offset.output;
    index += offset.index;
  }
  // To a column of its row. `whole`: the steps are 1, and a product takes four instructions.
  __device__ __forceinline__ void move_to(const QuantizeDim& inner, std::int64_t column,
                                          bool whole) {
    input += whole ? column : column * inner.input;
    output += whole ? column : column * inner.output;
    index += column * inner.index;
  }
  __device__ __forceinline__ void move_blocks(const QuantizeDim& dim, std::int64_t blocks) {
    scale += blocks * dim.scale;
    zero_point += blocks * dim.zero_point;
  }
};

// The first element of row `number` of the whole problem.
template <class A>
__device__ __forceinline__ Place row_at(const Problem<A>& problem, std::int64_t number) {
  Place row = {0, 0, problem.args.first_index, 0, 0};
#pragma unroll 1
  for (int d = problem.args.dims - 2; d >= 0; --d) {
    const QuantizeDim& dim = problem.args.dim[d];
    const std::int64_t next = d == 0 ? 0 : problem.by_size[d].quotient(number);
    const std::int64_t position = number - next * dim.size;
    number = next;
    row.move(dim, position);
    row.move_blocks(dim, problem.by_block[d].quotient(position));
  }
  return row;
}

// Up to kVector elements of one row that a thread works on at a time. Those that are not there are
// 0, which no extreme minds.
template <class T, int kVector>
struct Piece {
  std::int64_t output;  // offset of the first
  std::int64_t index;
  int count = 0;  // 0: nothing
  Vector<T, kVector> x = {};

  // From an element on, of which there are `left` in its row, or its block.
  __device__ __forceinline__ void load(const Problem<Arithmetic<T>>& problem, const Place& first,
                                       int left) {
    count = left < kVector ? (left < 0 ? 0 : left) : kVector;
    output = first.output;
    index = first.index;
    const T* const from = static_cast<const T*>(problem.args.input) + first.input;
    if (kVector > 1 && problem.whole && count == kVector) {
      x = *reinterpret_cast<const Vector<T, kVector>*>(from);
      return;
    }
    for (int i = 0; i < kVector; ++i) {
      if (i < count) x.fill(i, from[i * problem.inner().input]);
    }
  }

  __device__ __forceinline__ void store(const Problem<Arithmetic<T>>& problem) const {
    T* const to = static_cast<T*>(problem.args.output) + output;
    if (kVector > 1 && problem.whole && count == kVector) {
      *reinterpret_cast<Vector<T, kVector>*>(to) = x;
      return;
    }
    for (int i = 0; i < kVector; ++i) {
      if (i < count) to[i * problem.inner().output] = x.lane(i);
    }
  }

  __device__ __forceinline__ Extremes<Arithmetic<T>> extremes(bool symmetric) const {
    Extremes<Arithmetic<T>> found;
    if constexpr (Vector<T, kVector>::kPaired) {
      const std::uint32_t kept = symmetric ? 0x7fff7fffu : 0xffffffffu;
      std::uint32_t max = 0, min = 0;
      for (const std::uint32_t pair : x.word) max = larger_pair<T>(max, pair & kept);
      if (!symmetric) {
        for (const std::uint32_t pair : x.word) min = smaller_pair<T>(min, pair);
      }
      found = {widened(T{static_cast<std::uint16_t>(min)}),
               widened(T{static_cast<std::uint16_t>(max)})};
      found.join({widened(T{static_cast<std::uint16_t>(min >> 16)}),
                  widened(T{static_cast<std::uint16_t>(max >> 16)})},
                 symmetric);
    } else {
      for (int i = 0; i < kVector; ++i) found.take(widened(x.lane(i)), symmetric);
    }
    return found;
  }
};

// n, as far as a piece can tell.
template <int kVector>
__device__ __forceinline__ int elements_left(std::int64_t n) {
  return n < kVector ? static_cast<int>(n) : kVector;
}

}  // namespace strop::quantize::cuda
