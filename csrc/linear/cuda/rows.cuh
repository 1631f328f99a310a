#pragma once

// What products read and write beside the weight: x, the bias, and y after the activation.

#include "core/cuda/vector.cuh"
#include "formats/number_grid.h"
#include "linear/layout.h"

namespace strop::linear::cuda {
using namespace strop::cuda;

// Whether rows may be read and written 16 bytes at a time.
inline bool rows_are_vectors(const void* first, std::int64_t stride, DType dtype) {
  return reinterpret_cast<std::uintptr_t>(first) % kVectorBytes == 0 &&
         stride * dtype_size(dtype) % kVectorBytes == 0;
}

// Eight columns of x; `whole`: they may be read 16 bytes at a time, else only `left` are there.
template <class T>
__device__ __forceinline__ void load_columns(const T* from, bool whole, std::int64_t left,
                                             float (&columns)[8]) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  if (whole) {
#pragma unroll
    for (int first = 0; first < 8; first += kVector) {
      const auto held = *reinterpret_cast<const Vector<T, kVector>*>(from + first);
#pragma unroll
      for (int i = 0; i < kVector; ++i) columns[first + i] = widened(held.lane(i));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) columns[i] = i < left ? widened(from[i]) : 0.0f;
}

// Of a row's eight columns the `left` that are there; `vectors`: all are, and may be written 16
// bytes at a time.
template <class T>
__device__ __forceinline__ void write_columns(T* to, std::int64_t left, bool vectors,
                                              const T (&columns)[8]) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  if (!vectors) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < left) to[i] = columns[i];
    }
    return;
  }
#pragma unroll
  for (int first = 0; first < 8; first += kVector) {
    Vector<T, kVector> held = {};
#pragma unroll
    for (int i = 0; i < kVector; ++i) held.fill(i, columns[first + i]);
    *reinterpret_cast<Vector<T, kVector>*>(to + first) = held;
  }
}

template <class T>
__device__ __forceinline__ void store_rounded(T* to, float value) {
  Vector<T, 1> held = {};
  narrow<T, 1>({value}, held);
  *to = held.lane(0);
}

__device__ __forceinline__ float bias_at(const LinearRows& args, std::int64_t row) {
  if (args.bias == nullptr) return 0;
  if (args.bias_dtype == DType::kBFloat16) {
    return widened(static_cast<const BFloat16*>(args.bias)[row]);
  }
  if (args.bias_dtype == DType::kFloat16) {
    return widened(static_cast<const Float16*>(args.bias)[row]);
  }
  return static_cast<const float*>(args.bias)[row];
}

// The activations of linear/simd/activation.h, operation by operation and without an FMA, so that
// what is equal before them is equal after them. Out of line: once for a result.

__device__ __forceinline__ float power_of_two(float n) {
  const float shifted = n + (0x1.8p23f + 127.0f);
  return bits_float(float_bits(shifted) << 23);
}

__device__ __forceinline__ float exponential(float x) {
  x = max(-150.0f, min(150.0f, x));
  const float n = round_half_even(x * 1.44269504f);
  float r = n * -0.693145752f + x;
  r = n * -1.42860677e-6f + r;
  float series = 1.0f / 5040;
  series = series * r + 1.0f / 720;
  series = series * r + 1.0f / 120;
  series = series * r + 1.0f / 24;
  series = series * r + 1.0f / 6;
  series = series * r + 0.5f;
  series = series * r + 1.0f;
  series = series * r + 1.0f;
  const float half = round_down(n * 0.5f);
  return series * power_of_two(half) * power_of_two(n - half);
}

__device__ __forceinline__ float normal_distribution(float v) {
  constexpr float kEnd = 5.303300857543945f;
  constexpr float kEven[] = {0.13330978f,   0.049236763f,  0.032121476f, 0.018689526f,
                             0.0096589504f, 0.0019000502f, 0.0016948010f};
  constexpr float kOdd[] = {-0.066478372f,  -0.039586157f,  -0.025233150f,  -0.013515150f,
                            -0.0053334972f, -0.0015638714f, -0.00062022073f};
  v = max(-kEnd, min(kEnd, v));
  const float u = v * v * (2 / (kEnd * kEnd)) + -1.0f, square = u * u;
  float even = kEven[6], odd = kOdd[6];
#pragma unroll
  for (int i = 5; i >= 0; --i) {
    even = even * square + kEven[i];
    odd = odd * square + kOdd[i];
  }
  const float share = v * (odd * u + even) + 0.5f;
  return max(0.0f, min(1.0f, share));
}

[[maybe_unused]] static __device__ __noinline__ float activated(float v, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return max(0.0f, v);
    case Activation::kGelu:
      return v * normal_distribution(v);
    case Activation::kGeluTanh: {  // (1 + tanh(u)) / 2 = 1 / (1 + e^-2u)
      const float cubic = v * v * v * 0.044715f + v;
      return v / (1.0f + exponential(cubic * -1.59576912f));
    }
    case Activation::kSilu:
      return v / (1.0f + exponential(0.0f - v));
    default:
      return v;
  }
}

// A product's result, after its bias and activation.
__device__ __forceinline__ void store_result(const LinearRows& args, std::int64_t m, std::int64_t n,
                                             float product) {
  const float value = activated(product + bias_at(args, n), args.activation);
  const std::int64_t at = m * args.y_stride + n;
  if (args.dtype == DType::kBFloat16) {
    store_rounded(static_cast<BFloat16*>(args.y) + at, value);
  } else if (args.dtype == DType::kFloat16) {
    store_rounded(static_cast<Float16*>(args.y) + at, value);
  } else {
    static_cast<float*>(args.y)[at] = value;
  }
}

}  // namespace strop::linear::cuda
