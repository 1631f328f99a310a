#pragma once

// What the instructions of csrc/core/cuda/intrinsics.cuh do.

#include <cstdint>
#include <limits>

#include "core/dtype.h"
#include "cuda_host/kernel_side.h"

namespace strop::cuda {

inline float larger(float a, float b) {
  return a != a || b != b ? std::numeric_limits<float>::quiet_NaN() : a > b ? a : b;
}

inline float smaller(float a, float b) {
  return a != a || b != b ? std::numeric_limits<float>::quiet_NaN() : a < b ? a : b;
}

template <class T>
std::uint32_t narrowed_pair(float low, float high) {
  return FromFloat<T>::call(low).bits | std::uint32_t{FromFloat<T>::call(high).bits} << 16;
}

template <class T, class Choose>
std::uint32_t strop_pair(std::uint32_t a, std::uint32_t b, Choose choose) {
  const auto half = [&](int shift) {
    const T left = {static_cast<std::uint16_t>(a >> shift)};
    const T right = {static_cast<std::uint16_t>(b >> shift)};
    return choose(to_float(left), to_float(right));
  };
  return narrowed_pair<T>(half(0), half(16));
}

template <class T>
std::uint32_t larger_pair(std::uint32_t a, std::uint32_t b) {
  return strop_pair<T>(a, b, larger);
}

template <class T>
std::uint32_t smaller_pair(std::uint32_t a, std::uint32_t b) {
  return strop_pair<T>(a, b, smaller);
}

inline int dot_bytes(std::uint32_t a, std::uint32_t b, int sum) {
  for (int shift = 0; shift < 32; shift += 8) {
    sum += static_cast<std::int8_t>(a >> shift) * static_cast<std::int8_t>(b >> shift);
  }
  return sum;
}

// By lanes that tell each other their parts, four of which have a row of a, or a column of b.
template <class T>
void multiply_matrices(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], float (&d)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32, quad = lane / 4 * 4;
  const auto half = [](std::uint32_t pair, int i) {
    return double{to_float(T{static_cast<std::uint16_t>(pair >> (16 * i))})};
  };
  double sums[4] = {d[0], d[1], d[2], d[3]};
  for (int t = 0; t < 4; ++t) {
    for (int k = 0; k < 2; ++k) {  // eights of columns of a
      const std::uint32_t upper = __shfl_sync(0xffffffffu, a[2 * k], quad + t);
      const std::uint32_t lower = __shfl_sync(0xffffffffu, a[2 * k + 1], quad + t);
      const std::uint32_t even = __shfl_sync(0xffffffffu, b[k], lane % 4 * 8 + t);
      const std::uint32_t odd = __shfl_sync(0xffffffffu, b[k], lane % 4 * 8 + 4 + t);
      for (int i = 0; i < 2; ++i) {
        sums[0] += half(upper, i) * half(even, i);
        sums[1] += half(upper, i) * half(odd, i);
        sums[2] += half(lower, i) * half(even, i);
        sums[3] += half(lower, i) * half(odd, i);
      }
    }
  }
  for (int i = 0; i < 4; ++i) d[i] = static_cast<float>(sums[i]);
}

template <class T>
T& dynamic_shared() {
  return *reinterpret_cast<T*>(cuda_host::dynamic_shared());
}

inline void strop_copy(const cuda_host::Copy& copy) {
  auto* const to = static_cast<std::uint32_t*>(copy.to);
  if (copy.bytes == 4) {
    *to = *static_cast<const std::uint32_t*>(copy.from);
    return;
  }
  std::uint32_t word = 0;
  for (int i = 0; i < copy.bytes; ++i) {
    word |= std::uint32_t{static_cast<const std::uint8_t*>(copy.from)[i]} << (8 * i);
  }
  *to = word;
}

inline void copy_async(void* shared, const void* global, int bytes) {
  const cuda_host::Copy copy{shared, global, bytes};
  if (!cuda_host::hold_copy(copy)) strop_copy(copy);
}
inline void commit_copies() { cuda_host::commit_copies(); }

template <int kGroups>
void wait_for_copies() {
  for (;;) {
    const cuda_host::Copy copy = cuda_host::take_copy(kGroups);
    if (copy.to == nullptr) return;
    strop_copy(copy);
  }
}

}  // namespace strop::cuda
