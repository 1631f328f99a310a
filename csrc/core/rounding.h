#pragma once

#include <cmath>
#include <cstdint>

#include "core/portability.h"

namespace strop {

enum class Rounding : std::uint8_t {
  kHalfEven,    // to nearest, ties to even
  kHalfAway,    // to nearest, ties away from zero
  kFloor,       // toward minus infinity
  kCeil,        // toward plus infinity
  kTrunc,       // toward zero
  kStochastic,  // up with the probability of the fraction; whole numbers never move
};

inline constexpr int kRoundings = 6;
inline constexpr const char* kRoundingNames[kRoundings] = {"half_even", "half_away", "floor",
                                                           "ceil",      "trunc",     "stochastic"};

// What round_value needs of a number type; double is for GPUs, whose kernels have no reference loop
// to leave it to. The instruction sets add theirs for vectors of floats,
// found by argument-dependent lookup.
STROP_INLINE float round_half_even(float v) { return nearbyintf(v); }
STROP_INLINE float round_down(float v) { return floorf(v); }
STROP_INLINE float round_toward_zero(float v) { return truncf(v); }
STROP_INLINE float magnitude(float v) { return fabsf(v); }
STROP_INLINE float copysign(float value, float sign) { return __builtin_copysignf(value, sign); }
STROP_INLINE float one_where_less(float a, float b) { return a < b ? 1.0f : 0.0f; }

STROP_INLINE double round_half_even(double v) { return nearbyint(v); }
STROP_INLINE double round_down(double v) { return floor(v); }
STROP_INLINE double round_toward_zero(double v) { return trunc(v); }
STROP_INLINE double magnitude(double v) { return fabs(v); }
STROP_INLINE double copysign(double value, double sign) { return __builtin_copysign(value, sign); }
STROP_INLINE double one_where_less(double a, double b) { return a < b ? 1.0 : 0.0; }

// Rounds v to a whole number. T is float, double or a vector of floats; u in [0, 1) is the random
// number of kStochastic. NaN stays NaN, Inf stays Inf. A zero may come out with either sign.
template <Rounding kRounding, class T>
STROP_INLINE T round_value(T v, T u) {
  if constexpr (kRounding == Rounding::kHalfEven) {
    return round_half_even(v);
  } else if constexpr (kRounding == Rounding::kHalfAway) {
    // v - t is exact; Inf - Inf is NaN, which is not less, and Inf + 1 is Inf.
    const T t = round_toward_zero(v);
    return t + copysign(T(1.0f) - one_where_less(magnitude(v - t), T(0.5f)), v);
  } else if constexpr (kRounding == Rounding::kFloor) {
    return round_down(v);
  } else if constexpr (kRounding == Rounding::kCeil) {
    return T(0.0f) - round_down(T(0.0f) - v);
  } else if constexpr (kRounding == Rounding::kTrunc) {
    return round_toward_zero(v);
  } else {
    const T below = round_down(v);
    return below + one_where_less(u, v - below);
  }
}

}  // namespace strop
