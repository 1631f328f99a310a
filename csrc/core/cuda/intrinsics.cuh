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

// d += a b of matrices of 16-bit numbers, 16 by 16 and 16 by 8, of which each lane of a warp has a
// part, in pairs: with g = lane / 4 and t = lane % 4
//
//   a[0], a[1], a[2], a[3]   a[g][2t, 2t + 1], a[g + 8][same], a[g][2t + 8, 2t + 9], a[g + 8][same]
//   b[0], b[1]               b[2t, 2t + 1][g], b[2t + 8, 2t + 9][g]
//   d[0], d[1], d[2], d[3]   d[g][2t], d[g][2t + 1], d[g + 8][2t], d[g + 8][2t + 1]
//
// Products are exact, sums of float32 are cut off and not rounded.
template <class T>
__device__ __forceinline__ void multiply_matrices(const std::uint32_t (&a)[4],
                                                  const std::uint32_t (&b)[2], float (&d)[4]) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

// The shared memory that a launch asks for.
template <class T>
__device__ __forceinline__ T& dynamic_shared() {
  extern __shared__ __align__(16) unsigned char strop_dynamic_shared[];
  return *reinterpret_cast<T*>(strop_dynamic_shared);
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
