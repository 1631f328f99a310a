#pragma once

#include <cstdint>
#include <cstring>

#include "core/portability.h"

namespace strop {

// Element types as a caller may hand them over. The kernels take the four floating types; the rest
// are zero points, or are here to be named in an error.
enum class DType : std::uint8_t {
  kFloat32,
  kBFloat16,
  kFloat16,
  kFloat64,
  kUInt8,
  kInt8,
  kUInt16,
  kInt16,
  kUInt32,
  kInt32,
  kUInt64,
  kInt64,
  kBool,
  kComplex64,
  kComplex128,
  kOther,
};

constexpr bool is_floating(DType dtype) { return dtype <= DType::kFloat64; }
constexpr bool is_integer(DType dtype) { return dtype >= DType::kUInt8 && dtype <= DType::kInt64; }

const char* dtype_name(DType dtype);
int dtype_size(DType dtype);  // bytes; 0 for kOther

// Storage of the 16-bit floats: bits alone, so that a conversion is always spelled out.
//   BFloat16  s eeeeeeee mmmmmmm      Float16  s eeeee mmmmmmmmmm
struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

template <class T>
constexpr DType dtype_of = DType::kOther;
template <>
inline constexpr DType dtype_of<float> = DType::kFloat32;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::kBFloat16;
template <>
inline constexpr DType dtype_of<Float16> = DType::kFloat16;
template <>
inline constexpr DType dtype_of<double> = DType::kFloat64;

// Calls function.operator()<T>() with the type of a floating dtype's elements, float64 apart.
template <class Function>
auto by_narrow_dtype(DType dtype, Function function) {
  switch (dtype) {
    case DType::kBFloat16:
      return function.template operator()<BFloat16>();
    case DType::kFloat16:
      return function.template operator()<Float16>();
    default:
      return function.template operator()<float>();
  }
}

// The same, float64 among them.
template <class Function>
auto by_dtype(DType dtype, Function function) {
  if (dtype == DType::kFloat64) return function.template operator()<double>();
  return by_narrow_dtype(dtype, function);
}

STROP_INLINE std::uint32_t float_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

STROP_INLINE float bits_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

STROP_INLINE float to_float(float value) { return value; }
STROP_INLINE double to_float(double value) { return value; }
STROP_INLINE float to_float(BFloat16 value) { return bits_float(std::uint32_t{value.bits} << 16); }

STROP_INLINE float to_float(Float16 value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000u} << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x0400u) return bits_float(sign | ((magnitude << 13) + (112u << 23)));
  // Subnormal: magnitude units of 2^-24, exact in float32.
  return bits_float(sign | float_bits(static_cast<float>(magnitude) * 0x1p-24f));
}

template <class T>
struct FromFloat;

template <>
struct FromFloat<float> {
  STROP_INLINE float call(float value) { return value; }
};

template <>
struct FromFloat<double> {
  STROP_INLINE double call(double value) { return value; }
};

// Round to nearest, ties to even; a NaN becomes a quiet NaN of the same sign.
template <>
struct FromFloat<BFloat16> {
  STROP_INLINE BFloat16 call(float value) {
    const std::uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
      return {static_cast<std::uint16_t>((bits >> 16) | 0x40u)};
    }
    return {static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
};

template <>
struct FromFloat<Float16> {
  STROP_INLINE Float16 call(float value) {
    const std::uint32_t bits = float_bits(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    std::uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to Inf
      half = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {  // normal
      half = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    } else {  // subnormal: adding 0.5 leaves the rounded multiple of 2^-24 in the low bits
      half = float_bits(bits_float(magnitude) + 0.5f) & 0x7fffu;
    }
    return {static_cast<std::uint16_t>(sign | half)};
  }
};

}  // namespace strop
