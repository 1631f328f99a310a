#pragma once

// Instructions that the compiler does not find by itself. tests/cuda_host/include/cuda has what
// they do on a CPU.

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"

namespace strop::cuda {

// The larger and the smaller of two numbers; NaN, where one of them is.
__device__ __forceinline__ float larger(float a, float b) {
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

__device__ __forceinline__ float smaller(float a, float b) {
  float result;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
}

// The same of two 16-bit numbers at a time, in the halves of a word.
template <class T>
__device__ __forceinline__ std::uint32_t larger_pair(std::uint32_t a, std::uint32_t b) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("max.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  } else {
    asm("max.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  }
  return a;
}

template <class T>
__device__ __forceinline__ std::uint32_t smaller_pair(std::uint32_t a, std::uint32_t b) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("min.NaN.bf16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  } else {
    asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(a) : "r"(b));
  }
  return a;
}

// Two numbers rounded to 16 bits, to nearest, ties to even, the first one in the low half.
template <class T>
__device__ __forceinline__ std::uint32_t narrowed_pair(float low, float high) {
  std::uint32_t result;
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  }
  return result;
}

// The products of four signed bytes, added up.
__device__ __forceinline__ int dot_bytes(std::uint32_t a, std::uint32_t b, int sum) {
  int result;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

// Copies to shared memory that go on while the thread does, four bytes each, of which `bytes` are
// read and the others become 0; both places are aligned. The copies of a thread since its last
// commit are a group. Its own are there once it has waited for them, those of others after a
// barrier as well.
__device__ __forceinline__ void copy_async(void* shared, const void* global, int bytes) {
  const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until all but the thread's last `kGroups` groups are there.
template <int kGroups>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace strop::cuda
