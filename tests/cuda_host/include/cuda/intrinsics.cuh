#pragma once

// What the instructions of csrc/cuda/intrinsics.cuh do.

#include <cstdint>
#include <limits>

#include "kernels/dtype.h"

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

}  // namespace strop::cuda
