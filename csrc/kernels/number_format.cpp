#include "kernels/number_format.h"

#include <cmath>
#include <limits>

#include "kernels/number_grid.h"

namespace strop {
namespace {

constexpr NumberFormat signed_format(const char* name, int bits) {
  const double half = static_cast<double>(1 << (bits - 1));
  return {.name = name, .bits = bits, .min = -half, .max = half - 1};
}

constexpr NumberFormat unsigned_format(const char* name, int bits) {
  const double max = static_cast<double>((1 << bits) - 1);
  return {.name = name, .bits = bits, .min = 0.0, .max = max, .is_signed = false};
}

constexpr NumberFormat float_format(const char* name, int bits, double max, FloatBits layout) {
  return {
      .name = name, .bits = bits, .min = -max, .max = max, .grid = Grid::kFloat, .layout = layout};
}

constexpr NumberFormat recipe(const char* name, const NumberFormat& elements, int block,
                              ScaleKind scales) {
  NumberFormat format = elements;
  format.name = name;
  format.block = block;
  format.scales = scales;
  return format;
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// OCP 8-bit floats (e4m3fn has no Inf; e5m2 has one, which no code of ours is), and OCP MX's
// others.
constexpr NumberFormat kE4M3 = float_format("float8_e4m3fn", 8, 448.0, {3, 7, 0x7f, 0});
constexpr NumberFormat kE5M2 = float_format("float8_e5m2", 8, 57344.0, {2, 15, 0x7f, 0x7c});
constexpr NumberFormat kE2M3 = float_format("float6_e2m3fn", 6, 7.5, {3, 1, 0, 0});
constexpr NumberFormat kE3M2 = float_format("float6_e3m2fn", 6, 28.0, {2, 3, 0, 0});
constexpr NumberFormat kE2M1 = float_format("float4_e2m1fn", 4, 6.0, {1, 1, 0, 0});
constexpr NumberFormat kNf4 = {
    .name = "nf4", .bits = 4, .min = -1.0, .max = 1.0, .grid = Grid::kNf4};

}  // namespace

int NumberFormat::max_exponent() const { return std::ilogb(max); }

double NumberFormat::value(int code) const {
  if (grid == Grid::kNf4) return static_cast<double>(nf4_value(code));
  if (grid == Grid::kInteger) {
    const int half = 1 << (bits - 1);
    return is_signed && code >= half ? code - 2 * half : code;
  }
  const int magnitude = code & ((1 << (bits - 1)) - 1);
  const int exponent = magnitude >> layout.mantissa;
  const int rest = magnitude & ((1 << layout.mantissa) - 1);
  const int whole = exponent > 0 ? rest + (1 << layout.mantissa) : rest;
  const int power = (exponent > 0 ? exponent - layout.bias : layout.min_exponent());
  const double size = std::ldexp(whole, power - layout.mantissa);
  const double value = size <= max ? size : magnitude == layout.infinity ? kInfinity : std::nan("");
  return code == magnitude ? value : -value;
}

const std::vector<NumberFormat>& number_formats() {
  static const std::vector<NumberFormat> formats = {
      signed_format("int2", 2),
      signed_format("int3", 3),
      signed_format("int4", 4),
      signed_format("int5", 5),
      signed_format("int6", 6),
      signed_format("int7", 7),
      signed_format("int8", 8),
      unsigned_format("uint2", 2),
      unsigned_format("uint3", 3),
      unsigned_format("uint4", 4),
      unsigned_format("uint5", 5),
      unsigned_format("uint6", 6),
      unsigned_format("uint7", 7),
      unsigned_format("uint8", 8),
      signed_format("int16", 16),
      {.name = "integer", .bits = 0, .min = -kInfinity, .max = kInfinity},
      kE4M3,
      kE5M2,
      kE2M3,
      kE3M2,
      kE2M1,
      kNf4,
      recipe("mxfp8", kE4M3, 32, ScaleKind::kPowerOfTwo),
      recipe("mxfp8_e5m2", kE5M2, 32, ScaleKind::kPowerOfTwo),
      recipe("mxfp6_e2m3", kE2M3, 32, ScaleKind::kPowerOfTwo),
      recipe("mxfp6_e3m2", kE3M2, 32, ScaleKind::kPowerOfTwo),
      recipe("mxfp4", kE2M1, 32, ScaleKind::kPowerOfTwo),
      recipe("nvfp4", kE2M1, 16, ScaleKind::kTwoLevels),
  };
  return formats;
}

const NumberFormat* find_number_format(const std::string& name) {
  for (const NumberFormat& format : number_formats()) {
    if (name == format.name) return &format;
  }
  return nullptr;
}

}  // namespace strop
