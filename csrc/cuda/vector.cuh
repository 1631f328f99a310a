#pragma once

// Loads and stores of several elements, and shuffles, for the kernels of every family.

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/dtype.h"

namespace strop::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kVectorBytes = 16;

// kCount elements that one instruction loads or stores.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T lane[kCount];
};

// The type in which arithmetic on a storage type is done.
template <class T>
struct ArithmeticOf {
  using Type = float;
};
template <>
struct ArithmeticOf<double> {
  using Type = double;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::Type;

template <class T>
__device__ __forceinline__ Arithmetic<T> widened(T value) {
  return to_float(value);
}
template <>
__device__ __forceinline__ float widened(Float16 value) {
  return __half2float(__ushort_as_half(value.bits));
}

template <class T>
__device__ __forceinline__ T narrowed(Arithmetic<T> value) {
  return FromFloat<T>::call(value);
}
template <>
__device__ __forceinline__ Float16 narrowed<Float16>(float value) {
  return {__half_as_ushort(__float2half_rn(value))};
}

// 64-bit division is a hundred instructions: one copy of them.
static __device__ __noinline__ std::int64_t long_quotient(std::int64_t a, std::int64_t b) {
  return a / b;
}

// a / b for numbers of which neither is negative; 32-bit division takes a fifth of the time.
__device__ __forceinline__ std::int64_t quotient(std::int64_t a, std::int64_t b) {
  if (((a | b) >> 32) == 0) return static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b);
  return long_quotient(a, b);
}

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) % kWarp; }

}  // namespace strop::cuda
