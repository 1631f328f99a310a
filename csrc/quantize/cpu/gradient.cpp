#include <algorithm>
#include <vector>

#include "quantize/arguments.h"
#include "quantize/kernels.h"

namespace strop::quantize::cpu {
namespace {

// A parameter's gradient in the making: its blocks' sums, tile by tile, which is their order for
// any number of threads.
class Totals {
 public:
  explicit Totals(std::int64_t count) : sums_(static_cast<std::size_t>(count), 0.0) {}

  void add(const double* blocks, std::int64_t count, std::int64_t at, std::int64_t step) {
    for (std::int64_t i = 0; i < count; ++i)
      sums_[static_cast<std::size_t>(at + i * step)] += blocks[i];
  }

  void write(void* to, double factor) const {
    float* const out = static_cast<float*>(to);
    for (std::size_t i = 0; i < sums_.size(); ++i) out[i] = static_cast<float>(sums_[i] * factor);
  }

 private:
  std::vector<double> sums_;
};

}  // namespace
}  // namespace strop::quantize::cpu

namespace strop::quantize {

void run(const MaskedGradientArgs& args, const ExecutionOptions& options) {
  const bool stream =
      args.gradient != args.output && args.count * args.item_bytes >= options.stream_bytes;
  const std::int64_t units = divide_up(args.count, kMaskedUnit);
  constexpr std::int64_t kUnitsWorthAThread = 8;
  const auto kernel = kernels(options.isa).masked_gradient;
  options.parallel.for_range(units, kUnitsWorthAThread, [&](std::int64_t begin, std::int64_t end) {
    kernel(args, stream, begin * kMaskedUnit, std::min(end * kMaskedUnit, args.count));
  });
}

// float64 runs the reference loop.
void run(const LearnedGradientArgs& args, const ExecutionOptions& options) {
  using namespace cpu;
  if (args.forward.dtype == DType::kFloat64) return run(args, Oracle{});
  Totals scale(args.scale_count), zero(args.zero_count);
  if (args.forward.elements() > 0) {
    const FakeQuantizeArgs forward = simplified(args.forward);
    const SumTiles cut = sum_tiles(forward);
    LearnedTask task{};
    task.forward = cut_tiles(forward, cut.shape.rows, cut.shape.columns);
    task.gradient = args.gradient;
    task.blocks_held = cut.blocks_held;
    const QuantizeDim& inner = task.forward.inner();
    const std::int64_t tiles = cut.shape.tiles;
    const bool learns_zero = forward.zero_point_is_floating();
    const std::int64_t held = tiles * task.blocks_held;
    std::vector<double> sums(static_cast<std::size_t>(learns_zero ? 2 * held : held), 0.0);
    task.scale_sums = sums.data();
    task.zero_sums = learns_zero ? sums.data() + held : nullptr;
    const auto kernel = kernels(options.isa).learned_gradient;
    options.parallel.for_range(
        tiles, 2, [&](std::int64_t begin, std::int64_t end) { kernel(task, begin, end); });
    for (std::int64_t number = 0; number < tiles; ++number) {
      const QuantizeTile tile = tile_at(task.forward, number);
      const std::int64_t at = number * task.blocks_held;
      scale.add(task.scale_sums + at, tile.blocks, tile.scale, inner.scale);
      if (args.zero_gradient == nullptr) continue;
      zero.add(task.zero_sums + at, tile.blocks, tile.zero_point, inner.zero_point);
    }
  }
  scale.write(args.scale_gradient, args.factor);
  if (args.zero_gradient != nullptr) zero.write(args.zero_gradient, args.factor);
}

}  // namespace strop::quantize
