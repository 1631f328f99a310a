#pragma once

#include "augment/images.h"
#include "augment/position.h"
#include "core/portability.h"

namespace strop::augment {

// Four taps mixed, tap by tap: upper left, upper right, lower left, lower right. Fractions are in
// multiples of 2^-15. docs/numerics.md, "Augment", has the formulas.

// h(kMixedOne n, f), as one shift does it.
STROP_INLINE int share_of(int n, int fraction) {
  constexpr int kShift = kPositionBits - kMixedBits;
  return (n * fraction + (1 << (kShift - 1))) >> kShift;
}

STROP_INLINE int mixed_bytes(const int (&tap)[4], int fraction_x, int fraction_y) {
  constexpr int kHalf = 1 << (kPositionBits - 1);
  const int left = kMixedOne * tap[0] + share_of(tap[2] - tap[0], fraction_y);
  const int right = kMixedOne * tap[1] + share_of(tap[3] - tap[1], fraction_y);
  return left + (((right - left) * fraction_x + kHalf) >> kPositionBits);
}

// Without a fraction the first is taken as it is, whatever the second is.
template <class Number>
STROP_INLINE Number lerp(Number first, Number second, int fraction) {
  const Number part = static_cast<Number>(fraction) * static_cast<Number>(0x1p-15);
  const Number mixed = first + part * (second - first);
  return fraction == 0 ? first : mixed;
}

template <class Number>
STROP_INLINE Number mixed_floats(const Number (&tap)[4], int fraction_x, int fraction_y) {
  return lerp(lerp(tap[0], tap[2], fraction_y), lerp(tap[1], tap[3], fraction_y), fraction_x);
}

}  // namespace strop::augment
