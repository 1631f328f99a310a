#pragma once

// Loops whose every index is known at compile time, so that arrays of vectors stay in registers.
// Compiled once per instruction set.

#include <utility>

#include "core/simd/vector.h"

namespace strop::simd::STROP_ISA {

template <int kNumber>
struct Number {
  constexpr operator int() const { return kNumber; }
};

template <class Function, int... kNumbers>
STROP_INLINE void for_numbers(Function function, std::integer_sequence<int, kNumbers...>) {
  (function(Number<kNumbers>{}), ...);
}

// Calls function(Number<i>{}) for i in 0..kCount - 1. Mark the lambda STROP_UNROLLED.
template <int kCount, class Function>
STROP_INLINE void unrolled(Function function) {
  for_numbers(function, std::make_integer_sequence<int, kCount>{});
}
#define STROP_UNROLLED __attribute__((always_inline))

}  // namespace strop::simd::STROP_ISA
