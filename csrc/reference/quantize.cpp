#include "reference/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/philox.h"
#include "reference/quantize_block.h"

namespace strop::reference {
namespace {

// Storage is the element type, T the type of the arithmetic.
template <class T, class Storage>
Parameters<T> chosen_parameters(const FakeQuantizeArgs& args, const Block& block) {
  const auto* input = static_cast<const Storage*>(args.input);
  T smallest = 0, largest = 0;
  bool finite = true;
  for_each_element(args, block, [&](std::int64_t at, std::int64_t, std::int64_t) {
    const T x = to_float(input[at]);
    finite = finite && std::isfinite(x);
    smallest = x < smallest ? x : smallest;
    largest = x > largest ? x : largest;
  });
  const T nan = std::numeric_limits<T>::quiet_NaN();
  if (!finite) return {nan, nan};
  const QuantizeRule& rule = args.rule;
  const T eps = static_cast<T>(rule.eps);
  if (rule.symmetric) {
    const T amax = std::max(-smallest, largest);
    return {std::max(amax / static_cast<T>(rule.half_range()), eps),
            static_cast<T>(rule.zero_point)};
  }
  const T low = static_cast<T>(rule.quant_min), high = static_cast<T>(rule.quant_max);
  const T scale = std::max((largest - smallest) / static_cast<T>(rule.range()), eps);
  return {scale, std::min(std::max(low - std::nearbyint(smallest / scale), low), high)};
}

template <class T, class Storage>
void quantize_block(const FakeQuantizeArgs& args, const Block& block) {
  const auto* input = static_cast<const Storage*>(args.input);
  auto* output = static_cast<Storage*>(args.output);
  const Parameters<T> p = args.dynamic() ? chosen_parameters<T, Storage>(args, block)
                                         : given_parameters<T>(args, block);
  const bool floating = args.zero_point_is_floating();
  const bool random = args.rule.rounding == Rounding::kStochastic;
  const T inverse = T(1) / p.scale;
  const T low = static_cast<T>(args.rule.quant_min), high = static_cast<T>(args.rule.quant_max);
  for_each_element(args, block, [&](std::int64_t from, std::int64_t to, std::int64_t index) {
    const auto number = static_cast<std::uint64_t>(index);
    const T u = random ? philox_uniform(args.seed, RandomStream::kFakeQuantize, number) : 0.0f;
    const T x = to_float(input[from]);
    T code = floating ? rounded(args.rule.rounding, x * inverse + p.zero_point, u)
                      : rounded(args.rule.rounding, x * inverse, u) + p.zero_point;
    if (args.mask != nullptr && code >= low && code <= high) {
      // Blocks are shared among threads, and bytes by blocks.
      const auto bit = static_cast<std::uint8_t>(1 << to % 8);
      __atomic_fetch_or(args.mask + to / 8, bit, __ATOMIC_RELAXED);
    }
    if (code < low) code = low;
    if (code > high) code = high;
    // + 0: codes are whole numbers, and those have no -0.
    output[to] = FromFloat<Storage>::call((code + T(0) - p.zero_point) * p.scale);
  });
}

template <class T, class Storage>
void quantize_blocks(const FakeQuantizeArgs& args, std::int64_t first, std::int64_t last) {
  for (std::int64_t number = first; number < last; ++number) {
    quantize_block<T, Storage>(args, block_at(args, number));
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

void fake_quantize(const FakeQuantizeArgs& args, std::int64_t first_block,
                   std::int64_t last_block) {
  switch (args.dtype) {
    case DType::kFloat64:
      return quantize_blocks<double, double>(args, first_block, last_block);
    case DType::kBFloat16:
      return quantize_blocks<float, BFloat16>(args, first_block, last_block);
    case DType::kFloat16:
      return quantize_blocks<float, Float16>(args, first_block, last_block);
    default:
      return quantize_blocks<float, float>(args, first_block, last_block);
  }
}

}  // namespace strop::reference
