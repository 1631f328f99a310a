#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "quantize/spec.h"

// Formats as lists of their values, through which a number is looked for.
namespace strop::quantize::reference {

class ValueGrid {
 public:
  explicit ValueGrid(const QuantizeRule& rule) : rule_(rule) {
    if (rule.grid == Grid::kNf4) {
      for (int code = 0; code < 16; ++code)
        values_.push_back(find_number_format("nf4")->value(code));
      return;
    }
    std::vector<double> sizes;
    for (int code = 0; sizes.empty() || sizes.back() < rule.quant_max; ++code) {
      sizes.push_back(size_of(code, rule.layout));
    }
    for (std::size_t i = sizes.size(); i-- > 1;) values_.push_back(-sizes[i]);
    zero_ = values_.size();
    values_.insert(values_.end(), sizes.begin(), sizes.end());
  }

  template <class T>
  bool in_range(T v) const {
    return std::fabs(v) <= static_cast<T>(rule_.quant_max);
  }

  // u as for stochastic rounding. A zero has the sign of v.
  template <class T>
  T nearest(T v, T u) const {
    if (v != v) return v;
    if (v >= values_.back()) return static_cast<T>(values_.back());
    if (v <= values_.front()) return static_cast<T>(values_.front());
    const auto above = std::lower_bound(values_.begin(), values_.end(), static_cast<double>(v));
    const bool exact = *above == static_cast<double>(v);
    const bool up = exact || rounds_up(v, static_cast<std::size_t>(above - values_.begin()), u);
    const T found = static_cast<T>(up ? *above : *(above - 1));
    return rule_.grid == Grid::kNf4 ? found : std::copysign(found, v);
  }

  // Of a value of the grid.
  template <class T>
  std::uint32_t code(T value) const {
    if (value != value) return static_cast<std::uint32_t>(rule_.layout.nan);
    const auto at = static_cast<std::size_t>(
        std::lower_bound(values_.begin(), values_.end(), static_cast<double>(value)) -
        values_.begin());
    if (rule_.grid == Grid::kNf4) return static_cast<std::uint32_t>(at);
    const std::size_t size = at >= zero_ ? at - zero_ : zero_ - at;
    return static_cast<std::uint32_t>(size) | (std::signbit(value) ? 1u << (rule_.bits - 1) : 0u);
  }

 private:
  static double size_of(int code, const FloatBits& layout) {
    const int exponent = code >> layout.mantissa;
    const double fraction = std::ldexp(code & ((1 << layout.mantissa) - 1), -layout.mantissa);
    return exponent == 0 ? std::ldexp(fraction, 1 - layout.bias)
                         : std::ldexp(1 + fraction, exponent - layout.bias);
  }

  template <class T>
  bool rounds_up(T v, std::size_t above, T u) const {
    const double x = static_cast<double>(v), high = values_[above], low = values_[above - 1];
    if (rule_.grid == Grid::kNf4) return v > static_cast<T>(static_cast<float>((low + high) / 2));
    const double over = (x - low) - (high - x);  // of the middle
    switch (rule_.rounding) {
      case Rounding::kHalfEven:  // codes count from zero, either way
        return over > 0 || (over == 0 && (above + zero_) % 2 == 0);
      case Rounding::kHalfAway:
        return over > 0 || (over == 0 && v > 0);
      case Rounding::kFloor:
        return false;
      case Rounding::kCeil:
        return true;
      case Rounding::kTrunc:
        return v < 0;
      default:
        return u < (v - static_cast<T>(low)) / static_cast<T>(high - low);
    }
  }

  QuantizeRule rule_;
  std::vector<double> values_;  // ascending
  std::size_t zero_ = 0;        // where 0 is
};

// float8_e4m3fn, which the blocks' scales in two levels are.
inline ValueGrid grid_of_block_scales() {
  QuantizeRule rule{};
  rule.grid = Grid::kFloat;
  rule.bits = 8;
  rule.layout = {.mantissa = 3, .bias = 7, .nan = 0x7f, .infinity = 0};
  rule.quant_max = 448;
  return ValueGrid(rule);
}

}  // namespace strop::quantize::reference
