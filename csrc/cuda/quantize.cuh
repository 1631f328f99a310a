#pragma once

// Device parts of the quantize kernels: where elements lie, their parameters, their arithmetic.

#include "cuda/vector.cuh"
#include "kernels/philox.h"
#include "kernels/quantize.h"

namespace strop::cuda {

// An extreme is held as the integer that orders as the value does, NaN beyond Inf at either end: a
// maximum of integers loses no NaN, and any order of taking it gives the same bits.
template <class A>
struct KeyOf {
  using Type = int;
};
template <>
struct KeyOf<double> {
  using Type = long long;
};
template <class A>
using Key = typename KeyOf<A>::Type;

__device__ __forceinline__ int key_bits(float v) { return __float_as_int(v); }
__device__ __forceinline__ long long key_bits(double v) { return __double_as_longlong(v); }
__device__ __forceinline__ float key_value(int v) { return __int_as_float(v); }
__device__ __forceinline__ double key_value(long long v) { return __longlong_as_double(v); }

template <class K>
__device__ __forceinline__ K flipped(K bits) {
  constexpr K kRest = static_cast<K>(~(K{1} << (8 * sizeof(K) - 1)));
  return bits < 0 ? bits ^ kRest : bits;
}

// Both extremes of some elements and of 0; of |x| for a symmetric rule.
template <class A>
struct Extremes {
  Key<A> min = 0;
  Key<A> max = 0;

  __device__ __forceinline__ void take(A x, bool symmetric) {
    const Key<A> key = flipped(key_bits(symmetric ? magnitude(x) : x));
    join({key, key});
  }
  __device__ __forceinline__ void join(const Extremes& other) {
    if (other.max > max) max = other.max;
    if (other.min < min) min = other.min;
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
    found.join(other);
  }
  return found;
}

template <class A>
__device__ __forceinline__ QuantizeParams<A> chosen_params(const Extremes<A>& found,
                                                           const FakeQuantizeArgs& args) {
  const A tensor_scale =
      args.tensor_scale == nullptr ? A(1) : *static_cast<const A*>(args.tensor_scale);
  return choose_params<A>(key_value(flipped(found.min)), key_value(flipped(found.max)),
                          tensor_scale, args.rule);
}

// Extremes of all blocks, in memory: of the block at scale offset i, min[i] and max[i].
template <class A>
struct KeyTable {
  Key<A>* min;
  Key<A>* max;
};

template <class A>
__device__ __forceinline__ A read_zero_point(const void* data, DType dtype, std::int64_t at) {
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
__device__ __forceinline__ QuantizeParams<A> given_params(const FakeQuantizeArgs& args,
                                                          std::int64_t scale_at,
                                                          std::int64_t zero_at) {
  const A scale = static_cast<const A*>(args.scale)[scale_at];
  const A zero = args.zero_point == nullptr
                     ? A(0)
                     : read_zero_point<A>(args.zero_point, args.zero_point_dtype, zero_at);
  return {A(1) / scale, scale, zero};
}

// A row of the problem, or of a slab: offsets of its first element.
struct Row {
  std::int64_t input;
  std::int64_t output;
  std::int64_t index;
  std::int64_t scale;
  std::int64_t zero_point;
};

__device__ __forceinline__ Row row_at(const FakeQuantizeArgs& args, std::int64_t number) {
  Row row = {0, 0, args.first_index, 0, 0};
  for (int d = args.dims - 2; d >= 0; --d) {
    const QuantizeDim& dim = args.dim[d];
    const std::int64_t next = d == 0 ? 0 : quotient(number, dim.size);
    const std::int64_t position = number - next * dim.size;
    number = next;
    row.input += position * dim.input;
    row.output += position * dim.output;
    row.index += position * dim.index;
    const std::int64_t block = quotient(position, dim.block);
    row.scale += block * dim.scale;
    row.zero_point += block * dim.zero_point;
  }
  return row;
}

// Up to kVector elements of one row that a thread works on at a time.
template <class T, int kVector>
struct Piece {
  Row row;
  std::int64_t column;
  int count;  // 0: nothing
  Vector<T, kVector> x;

  __device__ __forceinline__ void load(const FakeQuantizeArgs& args) {
    const QuantizeDim& inner = args.dim[args.dims - 1];
    const T* const from = static_cast<const T*>(args.input) + row.input + column * inner.input;
    if (kVector > 1 && count == kVector) {
      x = *reinterpret_cast<const Vector<T, kVector>*>(from);
      return;
    }
    for (int i = 0; i < kVector; ++i) {
      if (i < count) x.lane[i] = from[i * inner.input];
    }
  }

  __device__ __forceinline__ void store(const FakeQuantizeArgs& args) const {
    const QuantizeDim& inner = args.dim[args.dims - 1];
    T* const to = static_cast<T*>(args.output) + row.output + column * inner.output;
    if (kVector > 1 && count == kVector) {
      *reinterpret_cast<Vector<T, kVector>*>(to) = x;
      return;
    }
    for (int i = 0; i < kVector; ++i) {
      if (i < count) to[i * inner.output] = x.lane[i];
    }
  }

  __device__ __forceinline__ Extremes<Arithmetic<T>> extremes(bool symmetric) const {
    Extremes<Arithmetic<T>> found;
    for (int i = 0; i < kVector; ++i) {
      if (i < count) found.take(widened(x.lane[i]), symmetric);
    }
    return found;
  }
};

__device__ __forceinline__ std::uint64_t seed_of(const FakeQuantizeArgs& args) {
  return args.seed_at == nullptr ? args.seed : *args.seed_at;
}

template <class A>
__device__ __forceinline__ CodeRange<A> code_range(const FakeQuantizeArgs& args) {
  return {number<A>(args.rule.quant_min), number<A>(args.rule.quant_max)};
}

template <Rounding kRounding, class A>
__device__ __forceinline__ Quantized<A> rounded_so(A x, const QuantizeParams<A>& params,
                                                   const FakeQuantizeArgs& args, A u) {
  if (args.rule.grid == Grid::kFloat) {
    const FloatGrid<A> grid = float_grid<A>(args.rule);
    return fake_quantize_on_grid<kRounding>(x, params.inverse, params.scale, grid, u);
  }
  if (args.rule.grid == Grid::kNf4) {
    return fake_quantize_on_grid<kRounding>(x, params.inverse, params.scale, Nf4Grid<A>{}, u);
  }
  const CodeRange<A> range = code_range<A>(args);
  return args.zero_point_is_floating() ? fake_quantize_value<kRounding, true>(x, params, range, u)
                                       : fake_quantize_value<kRounding, false>(x, params, range, u);
}

// Calls function<kRounding>(u) for the rule's rounding; u is the random number of the element whose
// index that is.
template <class A, class Function>
__device__ __forceinline__ auto by_rounding(const FakeQuantizeArgs& args, std::int64_t index,
                                            Function function) {
  switch (args.rule.rounding) {
    case Rounding::kHalfAway:
      return function.template operator()<Rounding::kHalfAway>(A(0));
    case Rounding::kFloor:
      return function.template operator()<Rounding::kFloor>(A(0));
    case Rounding::kCeil:
      return function.template operator()<Rounding::kCeil>(A(0));
    case Rounding::kTrunc:
      return function.template operator()<Rounding::kTrunc>(A(0));
    case Rounding::kStochastic:
      return function.template operator()<Rounding::kStochastic>(A(philox_uniform(
          seed_of(args), RandomStream::kFakeQuantize, static_cast<std::uint64_t>(index))));
    default:
      return function.template operator()<Rounding::kHalfEven>(A(0));
  }
}

// Any rounding. Not inlined, which would make every kernel several times as long.
template <class A>
__device__ __noinline__ Quantized<A> quantized_by_rule(A x, const QuantizeParams<A>& params,
                                                       const FakeQuantizeArgs& args,
                                                       std::int64_t index) {
  return by_rounding<A>(args, index, [&]<Rounding kRounding>(A u) {
    return rounded_so<kRounding>(x, params, args, u);
  });
}

// kHalfEven: the usual rounding, known at compile time. `index` is only of use to random numbers.
template <bool kHalfEven, class A>
__device__ __forceinline__ Quantized<A> quantized(A x, const QuantizeParams<A>& params,
                                                  const FakeQuantizeArgs& args,
                                                  std::int64_t index) {
  if constexpr (kHalfEven) return rounded_so<Rounding::kHalfEven>(x, params, args, A(0));
  return quantized_by_rule(x, params, args, index);
}

// Replaces a piece's elements, all of one block, by their results; the bits of their mask.
template <bool kHalfEven, class T, int kVector>
__device__ __forceinline__ unsigned quantize_piece(Piece<T, kVector>& piece,
                                                   const QuantizeParams<Arithmetic<T>>& params,
                                                   const FakeQuantizeArgs& args) {
  const std::int64_t step = args.dim[args.dims - 1].index;
  const std::int64_t index = piece.row.index + piece.column * step;
  unsigned bits = 0;
  for (int i = 0; i < kVector; ++i) {
    const auto result =
        quantized<kHalfEven>(widened(piece.x.lane[i]), params, args, index + i * step);
    piece.x.lane[i] = narrowed<T>(result.value);
    if (i < piece.count && result.in_range) bits |= 1u << i;
  }
  return bits;
}

}  // namespace strop::cuda
