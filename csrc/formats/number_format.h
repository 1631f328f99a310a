#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strop {

// How a format's values lie.
enum class Grid : std::uint8_t {
  kInteger,  // whole numbers
  kFloat,    // floats of few bits: see FloatBits
  kNf4,      // sixteen quantiles of the normal distribution
};

// The scales that a format allows.
enum class ScaleKind : std::uint8_t {
  kAny,         // one float a block
  kPowerOfTwo,  // a byte a block, e8m0: 2^(byte - 127), 255 for NaN
  kTwoLevels,   // a byte a block, float8_e4m3fn, and one float for the whole tensor
};

// A float format's bits, as a code has them:
//
//   s e..e m..m     e > 0: (-1)^s * 2^(e - bias) * 1.m..m      e = 0: (-1)^s * 2^(1 - bias) *
//   0.m..m
struct FloatBits {
  int mantissa;
  int bias;
  int nan;       // the code of NaN; 0 where there is none
  int infinity;  // likewise

  constexpr int min_exponent() const { return 1 - bias; }  // of the smallest normal number
};

// A number format. A recipe is a format that fixes blocks and scales as well.
struct NumberFormat {
  const char* name;
  int bits;    // of a stored code; 0 where codes are not stored
  double min;  // smallest and largest value of a code; -Inf and Inf for `integer`
  double max;
  bool is_signed = true;  // the symmetric zero point is 0, else the middle of the range
  Grid grid = Grid::kInteger;
  FloatBits layout = {};
  int block = 0;  // of a recipe: so many along the last axis
  ScaleKind scales = ScaleKind::kAny;

  constexpr bool bounded() const { return bits != 0; }
  constexpr bool is_recipe() const { return block != 0; }
  // The exponent of the largest value, which a power of two as scale makes room for.
  int max_exponent() const;
  // A code's value.
  double value(int code) const;
};

// Every format, in the order in which documentation lists them.
const std::vector<NumberFormat>& number_formats();

// nullptr for an unknown name.
const NumberFormat* find_number_format(const std::string& name);

// What to say of a name that is no format: those that are, and of a number type of torch's the
// nearest one.
std::string unknown_format(const std::string& name);

}  // namespace strop
