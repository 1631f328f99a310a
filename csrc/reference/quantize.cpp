#include "reference/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "kernels/philox.h"
#include "reference/number_grid.h"
#include "reference/quantize_block.h"

namespace strop::reference {
namespace {

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
  QuantizeRule of_scales{};
  of_scales.grid = Grid::kFloat;
  of_scales.layout = {.mantissa = 3, .bias = 7, .nan = 0x7f};
  of_scales.quant_max = 448;
  const T least = T(1) / 64;
  const T scale = ValueGrid(of_scales).nearest(std::max(wanted, least), T(0));
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
  const T width = range.largest - range.smallest;
  const T scale = std::max(width / static_cast<T>(rule.range()), eps);
  return {scale, std::min(std::max(low - std::nearbyint(range.smallest / scale), low), high)};
}

// An element's code, unclamped in integer formats; its place in the result; whether it is in range.
template <class T>
struct Element {
  T value;
  bool in_range;
};

template <class T>
Element<T> integer_element(T x, const Parameters<T>& p, const FakeQuantizeArgs& args, T u) {
  const T low = static_cast<T>(args.rule.quant_min), high = static_cast<T>(args.rule.quant_max);
  T code = args.zero_point_is_floating()
               ? rounded(args.rule.rounding, x * p.inverse + p.zero_point, u)
               : rounded(args.rule.rounding, x * p.inverse, u) + p.zero_point;
  const bool in_range = code >= low && code <= high;
  if (code < low) code = low;
  if (code > high) code = high;
  // + 0: codes are whole numbers, and those have no -0.
  return {(code + T(0) - p.zero_point) * p.scale, in_range};
}

template <class T, class Storage>
void quantize_block(const FakeQuantizeArgs& args, const Block& block, const ValueGrid* grid) {
  const auto* input = static_cast<const Storage*>(args.input);
  auto* output = static_cast<Storage*>(args.output);
  const Parameters<T> p = args.dynamic() ? chosen_parameters<T, Storage>(args, block)
                                         : given_parameters<T>(args, block);
  const bool random = args.rule.rounding == Rounding::kStochastic;
  for_each_element(args, block, [&](std::int64_t from, std::int64_t to, std::int64_t index) {
    const auto number = static_cast<std::uint64_t>(index);
    const T u = random ? philox_uniform(args.seed, RandomStream::kFakeQuantize, number) : 0.0f;
    const T x = to_float(input[from]);
    const Element<T> found = grid == nullptr ? integer_element(x, p, args, u)
                                             : Element<T>{grid->nearest(x * p.inverse, u) * p.scale,
                                                          grid->in_range(x * p.inverse)};
    if (args.mask != nullptr && found.in_range) {
      // Blocks are shared among threads, and bytes by blocks.
      const auto bit = static_cast<std::uint8_t>(1 << to % 8);
      __atomic_fetch_or(args.mask + to / 8, bit, __ATOMIC_RELAXED);
    }
    output[to] = FromFloat<Storage>::call(found.value);
  });
}

template <class T, class Storage>
void quantize_blocks(const FakeQuantizeArgs& args, std::int64_t first, std::int64_t last) {
  std::optional<ValueGrid> grid;
  if (args.rule.grid != Grid::kInteger) grid.emplace(args.rule);
  for (std::int64_t number = first; number < last; ++number) {
    quantize_block<T, Storage>(args, block_at(args, number), grid ? &*grid : nullptr);
  }
}

// Calls function.operator()<type of the arithmetic, element type>().
template <class Function>
auto by_dtype(DType dtype, Function function) {
  switch (dtype) {
    case DType::kFloat64:
      return function.template operator()<double, double>();
    case DType::kBFloat16:
      return function.template operator()<float, BFloat16>();
    case DType::kFloat16:
      return function.template operator()<float, Float16>();
    default:
      return function.template operator()<float, float>();
  }
}

}  // namespace

std::int64_t block_count(const FakeQuantizeArgs& args) {
  std::int64_t count = 1;
  for (int d = 0; d < args.dims; ++d) {
    count *= args.dim[d].size == 0 ? 0 : args.dim[d].blocks();
  }
  return count;
}

FakeQuantizeArgs prepared(const FakeQuantizeArgs& original, double& room) {
  FakeQuantizeArgs args = original;
  if (!args.dynamic() || args.rule.scales != ScaleKind::kTwoLevels) return args;
  for (int d = 0; d < args.dims; ++d)
    args.dim[d].block = std::max<std::int64_t>(args.dim[d].size, 1);
  by_dtype(args.dtype, [&]<class T, class Storage>() {
    Range<T> range;
    if (block_count(args) > 0) range = range_of<T, Storage>(args, block_at(args, 0));
    const T most = static_cast<T>(448 * args.rule.quant_max);
    const T scale = range.finite ? std::max(range.amax() / most, static_cast<T>(args.rule.eps))
                                 : std::numeric_limits<T>::quiet_NaN();
    std::memcpy(&room, &scale, sizeof scale);
  });
  args = original;
  args.tensor_scale = &room;
  return args;
}

void fake_quantize(const FakeQuantizeArgs& args, std::int64_t first_block,
                   std::int64_t last_block) {
  by_dtype(args.dtype, [&]<class T, class Storage>() {
    quantize_blocks<T, Storage>(args, first_block, last_block);
  });
}

void fake_quantize(const FakeQuantizeArgs& args) {
  double room = 0;
  fake_quantize(prepared(args, room), 0, block_count(args));
}

}  // namespace strop::reference
