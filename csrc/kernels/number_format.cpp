#include "kernels/number_format.h"

#include <cmath>
#include <limits>

namespace strop {
namespace {

constexpr NumberFormat signed_format(const char* name, int bits) {
  const double half = static_cast<double>(1 << (bits - 1));
  return {name, bits, -half, half - 1, true};
}

constexpr NumberFormat unsigned_format(const char* name, int bits) {
  return {name, bits, 0.0, static_cast<double>((1 << bits) - 1), false};
}

}  // namespace

const std::vector<NumberFormat>& number_formats() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static const std::vector<NumberFormat> formats = {
      signed_format("int2", 2),    signed_format("int3", 3),
      signed_format("int4", 4),    signed_format("int5", 5),
      signed_format("int6", 6),    signed_format("int7", 7),
      signed_format("int8", 8),    unsigned_format("uint2", 2),
      unsigned_format("uint3", 3), unsigned_format("uint4", 4),
      unsigned_format("uint5", 5), unsigned_format("uint6", 6),
      unsigned_format("uint7", 7), unsigned_format("uint8", 8),
      signed_format("int16", 16),  {"integer", 0, -kInfinity, kInfinity, true},
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
