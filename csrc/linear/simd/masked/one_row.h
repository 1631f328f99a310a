#pragma once

// What products of one row of x have in common. Compiled once per instruction set.

#include "linear/kernels.h"
#include "linear/simd/activation.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr std::int64_t kRowAhead = 4096;

// y's columns [column, column + count) of one row.
template <class T>
void put_row(const LinearRows& args, const float* sums, std::int64_t column, std::int64_t count,
             T* y) {
  const auto* const bias = static_cast<const float*>(args.bias);
  for (std::int64_t n = 0; n < count; n += kLanes) {
    const std::int64_t left = count - n;
    const bool whole = left >= kLanes;
    Vec v = whole ? load(sums + n) : load_first(sums + n, left);
    if (bias != nullptr) {
      v = v + (whole ? load(bias + column + n) : load_first(bias + column + n, left));
    }
    v = activated(v, args.activation);
    whole ? store<false>(y + column + n, v) : store_first(y + column + n, v, left);
  }
}

}  // namespace strop::linear::simd::STROP_ISA
