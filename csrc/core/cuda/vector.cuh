#pragma once

// Loads and stores of several elements, and shuffles, for the kernels of every family.

#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "core/cuda/intrinsics.cuh"
#include "core/dtype.h"

namespace strop::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr int kVectorBytes = 16;

// kCount elements that one instruction loads or stores. Those of 16 bits are held in pairs, the
// first in a word's low half: lanes of their own would take a register each.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  static constexpr bool kPaired = sizeof(T) == 2 && kCount > 1;
  using Word = std::conditional_t<kPaired, std::uint32_t, T>;

  Word word[kPaired ? kCount / 2 : kCount];

  __device__ __forceinline__ T lane(int i) const {
    if constexpr (kPaired) {
      return T{static_cast<std::uint16_t>(word[i / 2] >> (i % 2 * 16))};
    } else {
      return word[i];
    }
  }

  // Of a lane that is 0 before.
  __device__ __forceinline__ void fill(int i, T value) {
    if constexpr (kPaired) {
      word[i / 2] |= std::uint32_t{bits_of(value)} << (i % 2 * 16);
    } else {
      word[i] = value;
    }
  }

 private:
  static __device__ __forceinline__ std::uint16_t bits_of(std::uint16_t value) { return value; }
  template <class Float>
  static __device__ __forceinline__ std::uint16_t bits_of(Float value) {
    return value.bits;
  }
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

// Rounds to the storage type; a pair of 16-bit numbers at a time, which is one instruction.
template <class T, int kCount>
__device__ __forceinline__ void narrow(const Arithmetic<T> (&values)[kCount],
                                       Vector<T, kCount>& into) {
  if constexpr (Vector<T, kCount>::kPaired) {
    for (int i = 0; i < kCount; i += 2) {
      into.word[i / 2] = narrowed_pair<T>(values[i], values[i + 1]);
    }
  } else if constexpr (sizeof(T) == 2) {
    into.word[0].bits = static_cast<std::uint16_t>(narrowed_pair<T>(values[0], 0));
  } else {
    for (int i = 0; i < kCount; ++i) into.word[i] = values[i];
  }
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
