#include "quantize/reference/fake_quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "quantize/reference/block.h"
#include "quantize/reference/choice.h"
#include "quantize/reference/number_grid.h"

namespace strop::quantize::reference {
namespace {

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
  const Parameters<T> p = parameters_of<T, Storage>(args, block);
  for_each_element(args, block, [&](std::int64_t from, std::int64_t to, std::int64_t index) {
    const T u = random_number<T>(args, index);
    const T x = to_float(input[from]);
    const Element<T> found = grid == nullptr ? integer_element(x, p, args, u)
                                             : Element<T>{grid->nearest(x * p.inverse, u) * p.scale,
                                                          grid->in_range(x * p.inverse)};
    if (args.mask != nullptr && found.in_range) {
      // Blocks are shared among threads, and bytes by blocks.
      const auto bit = static_cast<std::uint8_t>(1 << to % 8);
      __atomic_fetch_or(args.mask + to / 8, bit, __ATOMIC_RELAXED);
    }
    const bool inf_stays = args.rule.unbounded() && std::isinf(x);
    output[to] = stored<T, Storage>(found.value, inf_stays || p.has_inf());
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

}  // namespace

std::int64_t block_count(const FakeQuantizeArgs& args) {
  std::int64_t count = 1;
  for (int d = 0; d < args.dims; ++d) {
    count *= args.dim[d].size == 0 ? 0 : args.dim[d].blocks();
  }
  return count;
}

FakeQuantizeArgs prepared(const FakeQuantizeArgs& original, double& tensor_scale) {
  FakeQuantizeArgs args = original;
  if (!args.dynamic() || args.rule.scales != ScaleKind::kTwoLevels) return args;
  for (int d = 0; d < args.dims; ++d)
    args.dim[d].block = std::max<std::int64_t>(args.dim[d].size, 1);
  by_arithmetic(args.dtype, [&]<class T, class Storage>() {
    Range<T> range;
    if (block_count(args) > 0) range = range_of<T, Storage>(args, block_at(args, 0));
    const T most = static_cast<T>(448 * args.rule.quant_max);
    const T scale = range.finite ? std::max(range.amax() / most, static_cast<T>(args.rule.eps))
                                 : std::numeric_limits<T>::quiet_NaN();
    std::memcpy(&tensor_scale, &scale, sizeof scale);
  });
  args = original;
  args.tensor_scale = &tensor_scale;
  return args;
}

void fake_quantize(const FakeQuantizeArgs& args, std::int64_t first_block,
                   std::int64_t last_block) {
  by_arithmetic(args.dtype, [&]<class T, class Storage>() {
    quantize_blocks<T, Storage>(args, first_block, last_block);
  });
}

}  // namespace strop::quantize::reference

namespace strop::quantize {

void run(const FakeQuantizeArgs& args, Oracle) {
  double tensor_scale = 0;
  reference::fake_quantize(reference::prepared(args, tensor_scale), 0,
                           reference::block_count(args));
}

}  // namespace strop::quantize
