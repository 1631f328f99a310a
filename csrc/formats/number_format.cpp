#include "formats/number_format.h"

#include <cmath>
#include <limits>
#include <string_view>

#include "formats/number_grid.h"

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

// A number type of torch's that is no format.
struct OtherType {
  std::string_view name;
  const char* what;
  const char* nearest;
};

constexpr OtherType kOtherTypes[] = {
    {"int1", "one bit, -1 and 0", "int2"},
    {"uint1", "one bit, 0 and 1", "uint2"},
    {"bool", "one bit, 0 and 1", "uint2"},
    {"uint16", "16 bits without a sign", "int16"},
    {"int32", "more than 16 bits", "integer"},
    {"int64", "more than 16 bits", "integer"},
    {"uint32", "more than 16 bits", "integer"},
    {"uint64", "more than 16 bits", "integer"},
    {"qint8", "whole tensors, with their scales", "int8"},
    {"quint8", "whole tensors, with their scales", "uint8"},
    {"qint32", "whole tensors, with their scales", "integer"},
    {"quint4x2", "whole tensors, with their scales", "uint4"},
    {"quint2x4", "whole tensors, with their scales", "uint2"},
    {"float4_e2m1fn_x2", "two codes a byte", "float4_e2m1fn"},
    {"float8_e4m3fnuz", "bias 8, 240 at most and no -0", "float8_e4m3fn"},
    {"float8_e5m2fnuz", "bias 16, no Inf and no -0", "float8_e5m2"},
    {"float8_e8m0fnu", "powers of two, which scale the blocks of MX formats", "mxfp8"},
    {"float16", "numbers that .to() casts to", "float8_e5m2"},
    {"bfloat16", "numbers that .to() casts to", "float8_e4m3fn"},
    {"float32", "numbers that .to() casts to", "float8_e4m3fn"},
    {"float64", "numbers that .to() casts to", "float8_e4m3fn"},
};

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

std::string unknown_format(const std::string& name) {
  std::string text = "format '" + name + "' is not known; known are ";
  for (const NumberFormat& format : number_formats()) {
    if (&format != number_formats().data()) text += ", ";
    text += format.name;
  }
  constexpr std::string_view kPrefix = "torch.";
  std::string_view type = name;
  if (type.substr(0, kPrefix.size()) == kPrefix) type.remove_prefix(kPrefix.size());
  for (const OtherType& other : kOtherTypes) {
    if (type != other.name) continue;
    return text + "; " + name + " has " + other.what + ": " + other.nearest + " is nearest";
  }
  return text;
}

}  // namespace strop
