#pragma once

// Whether elements are finite. Compiled once per instruction set.

#include "core/simd/vector.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

template <class T>
STROP_INLINE bool all_finite(const T* x, std::int64_t count) {
  Vec none(0.0f);  // what v - v is, unless v is Inf or NaN
  for (std::int64_t k = 0; k < count; k += kLanes) {
    const std::int64_t left = count - k;
    const Vec v = left >= kLanes ? load(x + k) : load_first(x + k, left);
    none = none + (v - v);
  }
  return lane_bits(eq(none, Vec(0.0f))) == (1u << kLanes) - 1;
}

}  // namespace strop::linear::simd::STROP_ISA
