#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "quantize/reference/block.h"
#include "quantize/reference/number_grid.h"
#include "quantize/reference/random.h"

// What a block is quantized with: the parameters that are given or chosen, random numbers.
namespace strop::quantize::reference {

// Storage is the element type, T the type of the arithmetic.
template <class T>
struct Range {
  T smallest = 0;
  T largest = 0;
  bool finite = true;

  T amax() const { return std::max(-smallest, largest); }
};

template <class T, class Storage>
Range<T> range_of(const FakeQuantizeArgs& args, const Block& block) {
  const auto* input = static_cast<const Storage*>(args.input);
  Range<T> range;
  for_each_element(args, block, [&](std::int64_t at, std::int64_t, std::int64_t) {
    const T x = to_float(input[at]);
    range.finite = range.finite && std::isfinite(x);
    range.smallest = x < range.smallest ? x : range.smallest;
    range.largest = x > range.largest ? x : range.largest;
  });
  return range;
}

template <class T>
Parameters<T> power_of_two(T amax, int max_exponent) {
  const int wanted = amax > 0 ? std::ilogb(amax) - max_exponent : -127;
  return {std::ldexp(T(1), std::clamp(wanted, -127, 127)), T(0)};
}

template <class T>
Parameters<T> in_two_levels(T amax, T tensor_scale, const QuantizeRule& rule) {
  const T wanted = amax / static_cast<T>(rule.quant_max) / tensor_scale;
  const T least = T(1) / 64;
  const T scale = grid_of_block_scales().nearest(std::max(wanted, least), T(0));
  return {tensor_scale * scale, T(0), (T(1) / tensor_scale) / scale};
}

template <class T, class Storage>
Parameters<T> chosen_parameters(const FakeQuantizeArgs& args, const Block& block) {
  const Range<T> range = range_of<T, Storage>(args, block);
  const T nan = std::numeric_limits<T>::quiet_NaN();
  if (!range.finite) return {nan, nan};
  const QuantizeRule& rule = args.rule;
  const T eps = static_cast<T>(rule.eps);
  if (rule.scales == ScaleKind::kPowerOfTwo) return power_of_two(range.amax(), rule.max_exponent);
  if (rule.scales == ScaleKind::kTwoLevels) {
    return in_two_levels(range.amax(), *static_cast<const T*>(args.tensor_scale), rule);
  }
  if (rule.symmetric) {
    return {std::max(range.amax() / static_cast<T>(rule.half_range()), eps),
            static_cast<T>(rule.zero_point)};
  }
  const T low = static_cast<T>(rule.quant_min), high = static_cast<T>(rule.quant_max);
  const T width = range.largest - range.smallest, codes = static_cast<T>(rule.range());
  const T step =
      std::isinf(width) ? (range.largest / 2 - range.smallest / 2) / (codes / 2) : width / codes;
  const T scale = std::max(step, eps);
  return {scale, std::min(std::max(low - std::nearbyint(range.smallest / scale), low), high)};
}

template <class T, class Storage>
Parameters<T> parameters_of(const FakeQuantizeArgs& args, const Block& block) {
  return args.dynamic() ? chosen_parameters<T, Storage>(args, block)
                        : given_parameters<T>(args, block);
}

template <class T>
T random_number(const FakeQuantizeArgs& args, std::int64_t index) {
  if (args.rule.rounding != Rounding::kStochastic) return 0;
  return uniform_number(args.seed, RandomStream::kFakeQuantize, static_cast<std::uint64_t>(index));
}

// Calls function.operator()<type of the arithmetic, element type>().
template <class Function>
auto by_arithmetic(DType dtype, Function function) {
  return by_dtype(dtype, [&]<class Storage>() {
    return function.template operator()<decltype(to_float(Storage{})), Storage>();
  });
}

}  // namespace strop::quantize::reference
