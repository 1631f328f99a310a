#pragma once

#include "quantize/fake_quantize.h"

namespace strop::quantize {

// quantize: fake_quantize's codes in place of its results, and the scales that were chosen.
// dequantize: what fake_quantize would have given, from those.
//
// Codes of `bits` bits are packed densely, low bits first, each row of the last axis from a byte of
// its own on; those of 16 bits are int16. Of 4 bits:
//
//   byte      0         1         2
//   bits   1111 0000 3333 2222 ---- 4444      row of five codes
//
// An integer's code is its two's complement; a float's has the layout of FloatBits, and -0 is not
// 0; NF4's is the number of its value. NaN becomes the format's NaN, or code 0 where there is none.
//
// Scales lie as the blocks do, row-major: one float (double for float64) each; for scales that are
// powers of two a byte each, e8m0; in two levels a byte each, float8_e4m3fn, and the tensor's
// float.

// Bytes of a row of codes.
constexpr std::int64_t code_row_bytes(std::int64_t codes, int bits) {
  return (codes * bits + 7) / 8;
}

// Where the parameters that quantize chooses go; nullptr for those that it does not choose. Blocks'
// are `dim.scale` apart, as the problem's dimensions have it.
struct ChosenScales {
  void* scale;
  std::int32_t* zero_point;
  void* tensor_scale;
};

// Without codes, the scales alone are chosen.
struct QuantizeArgs {
  FakeQuantizeArgs problem;  // output: the codes, or nullptr; its steps are in bits
  NumberFormat format;
  ChosenScales chosen;

  constexpr bool has_codes() const { return problem.output != nullptr; }
};

void run(const QuantizeArgs& args, Oracle);
void run(const QuantizeArgs& args, const ExecutionOptions& options);
// On a GPU, with so many bytes of any content.
std::size_t workspace_bytes(const QuantizeArgs& args, const Launch& on);
void run(const QuantizeArgs& args, void* workspace, const Launch& on);

struct DequantizeArgs {
  FakeQuantizeArgs problem;  // input: the codes; its steps are in bits
  NumberFormat format;
  bool wide;  // arithmetic, and scales that are no bytes, are of float64
};

void run(const DequantizeArgs& args, Oracle);
void run(const DequantizeArgs& args, const ExecutionOptions& options);
void run(const DequantizeArgs& args, const Launch& on);

// pack_bits and unpack_bits: rows of `count` codes of a byte each, packed as above. Bits of a code
// beyond `bits` are ignored.
struct BitRows {
  const void* from;
  void* to;
  std::int64_t rows;
  std::int64_t count;
  int bits;

  constexpr std::int64_t bytes() const { return code_row_bytes(count, bits); }  // of a packed row
};
struct PackArgs : BitRows {};
struct UnpackArgs : BitRows {};

void run(const PackArgs& rows, Oracle);
void run(const PackArgs& rows, const ExecutionOptions& options);
void run(const PackArgs& rows, const Launch& on);

void run(const UnpackArgs& rows, Oracle);
void run(const UnpackArgs& rows, const ExecutionOptions& options);
void run(const UnpackArgs& rows, const Launch& on);

// The byte that a scale is kept as, and back; in the type of the arithmetic.
STROP_INLINE std::uint8_t power_to_byte(float scale) {  // a power of two, or NaN
  return static_cast<std::uint8_t>(float_bits(scale) >> 23);
}
STROP_INLINE std::uint8_t power_to_byte(double scale) {
  return power_to_byte(static_cast<float>(scale));
}
STROP_INLINE float power_from_byte(std::uint8_t byte) {
  if (byte == 255) return bits_float(0x7fc00000u);
  return byte == 0 ? bits_float(0x00400000u) : bits_float(std::uint32_t{byte} << 23);
}

// float8_e4m3fn of 2^-6 at least, or NaN: no subnormal.
STROP_INLINE std::uint8_t block_scale_to_byte(float scale) {
  if (scale != scale) return 0x7f;
  return static_cast<std::uint8_t>((float_bits(scale) >> 20) - ((127 - 7) << 3));
}
STROP_INLINE std::uint8_t block_scale_to_byte(double scale) {
  return block_scale_to_byte(static_cast<float>(scale));
}
STROP_INLINE float block_scale_from_byte(std::uint8_t byte) {
  const std::uint32_t size = byte & 0x7fu;
  const std::uint32_t sign = std::uint32_t{byte & 0x80u} << 24;
  if (size == 0x7f) return bits_float(0x7fc00000u);
  if (size < 8) return bits_float(sign | float_bits(static_cast<float>(size) * 0x1p-9f));
  return bits_float(sign | ((size << 20) + ((127u - 7u) << 23)));
}

// How many binades apart two powers of two are.
STROP_INLINE std::uint32_t binades(float high, float low) {
  return (float_bits(high) - float_bits(low)) >> 23;
}
STROP_INLINE std::uint32_t binades(double high, double low) {
  return static_cast<std::uint32_t>((double_bits(high) - double_bits(low)) >> 52);
}

// The code of a number of a float grid: in the first binade and below it codes count the steps, and
// every further binade has as many again.
// Rule is QuantizeRule, or has its numbers in another type.
template <class T, class Rule>
STROP_INLINE std::uint32_t float_code(T value, const FloatGrid<T>& grid, const Rule& rule) {
  if (value != value) return static_cast<std::uint32_t>(rule.layout.nan);
  const T size = magnitude(value);
  const T binade = max(grid.smallest_normal, power_of_two_below(size));
  const auto steps = static_cast<std::uint32_t>(size * inverse_of_power(binade * grid.step));
  const std::uint32_t code =
      (binades(binade, grid.smallest_normal) << rule.layout.mantissa) + steps;
  return code | (copysign(T(1), value) < T(0) ? 1u << (rule.bits - 1) : 0u);
}

// The number that a float's code stands for.
template <class T, class Rule>
STROP_INLINE T float_value(std::uint32_t code, const Rule& rule) {
  const std::uint32_t size = code & ((1u << (rule.bits - 1)) - 1);
  const std::uint32_t exponent = size >> rule.layout.mantissa;
  // Counted in steps of its binade, of which the first is the subnormals' as well.
  const std::uint32_t further = exponent == 0 ? 0 : exponent - 1;
  const std::uint32_t steps = size - (further << rule.layout.mantissa);
  const int power = rule.layout.min_exponent() - rule.layout.mantissa + static_cast<int>(further);
  T value = static_cast<T>(steps) * static_cast<T>(bits_double(std::uint64_t(1023 + power) << 52));
  if (value > static_cast<T>(rule.quant_max)) {
    const bool infinite = static_cast<int>(size) == rule.layout.infinity;
    value = bits_float(infinite ? 0x7f800000u : 0x7fc00000u);
  }
  return code == size ? value : -value;
}

}  // namespace strop::quantize
