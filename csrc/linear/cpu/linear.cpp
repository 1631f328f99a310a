#include <algorithm>
#include <memory>
#include <vector>

#include "linear/kernels.h"

namespace strop::linear::cpu {
namespace {

// Multiply-adds that are worth waking a thread for.
constexpr std::int64_t kGrain = 1 << 16;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t items_a_grain(const SparseLinearArgs& args, std::int64_t items, std::int64_t rows) {
  const std::int64_t work = std::max<std::int64_t>(args.header().count * rows / items, 1);
  return std::max<std::int64_t>(divide_up(kGrain, work), 1);
}

// Rows of x as tiles of about equal numbers of vectors.
std::vector<PanelTile> cut_tiles(std::int64_t rows, int lanes, int most_registers,
                                 std::int64_t columns_with_zeros) {
  const std::int64_t vectors = divide_up(rows, lanes);
  const std::int64_t count = divide_up(vectors, most_registers);
  std::vector<PanelTile> tiles;
  std::int64_t vector = 0, panel = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto registers = static_cast<int>((vectors - vector) / (count - i) +
                                            ((vectors - vector) % (count - i) != 0 ? 1 : 0));
    const std::int64_t first = vector * lanes;
    tiles.push_back({first,
                     static_cast<int>(std::min<std::int64_t>(registers * lanes, rows - first)),
                     registers, panel});
    panel += columns_with_zeros * registers * lanes;
    vector += registers;
  }
  return tiles;
}

// Uninitialised, on a boundary of cache lines.
class Floats {
 public:
  explicit Floats(std::int64_t count)
      : bytes_(new std::uint8_t[static_cast<std::size_t>(count) * sizeof(float) + 64]) {}
  float* data() const {
    const auto place = reinterpret_cast<std::uintptr_t>(bytes_.get());
    return reinterpret_cast<float*>((place + 63) / 64 * 64);
  }

 private:
  std::unique_ptr<std::uint8_t[]> bytes_;
};

void run_strips(const SparseLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const LayoutHeader& header = args.header();
  const std::int64_t columns = header.column_blocks() * (header.block_columns + 1);
  const bool one = args.rows == 1 && header.interleave == 4;
  const int lanes = one ? kOneLanes : kernels.lanes;
  const int registers = kernels.most_registers[header.interleave == 4 ? 0 : 1];
  const std::vector<PanelTile> tiles = cut_tiles(args.rows, lanes, registers, columns);
  const PanelTile& last = tiles.back();
  const Floats panels(last.panel + columns * last.registers * lanes);
  const StripTask task = {args, panels.data(), tiles.data(), static_cast<int>(tiles.size())};
  const std::int64_t pieces = task.tile_count * header.column_blocks();
  parallel.for_range(
      pieces, std::max<std::int64_t>(kGrain / (header.block_columns * lanes * 4), 1),
      [&](std::int64_t begin, std::int64_t end) { kernels.fill_panels(task, begin, end); });
  const std::int64_t items = task.groups() * header.row_blocks();
  const auto multiply = one ? kernels.multiply_one : kernels.multiply_strips;
  const std::int64_t sums = task.tile_sums(lanes) * std::min(task.tile_count, kMaxTiles);
  parallel.for_range(items, items_a_grain(args, items, args.rows),
                     [&](std::int64_t begin, std::int64_t end) {
                       multiply(task, Floats(sums).data(), begin, end);
                     });
}

// The bias as float32, which is what kernels add.
std::vector<float> widened_bias(const SparseLinearArgs& args) {
  std::vector<float> bias(static_cast<std::size_t>(args.header().rows));
  by_narrow_dtype(args.bias_dtype, [&]<class T>() {
    const T* const from = static_cast<const T*>(args.bias);
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = to_float(from[i]);
  });
  return bias;
}

void run_mask(const SparseLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const LayoutHeader& header = args.header();
  parallel.for_range(header.rows, items_a_grain(args, header.rows, args.rows),
                     [&](std::int64_t begin, std::int64_t end) {
                       const Floats words(header.row_words() * 64);
                       kernels.multiply_mask(args, words.data(), begin, end);
                     });
}

}  // namespace
}  // namespace strop::linear::cpu

namespace strop::linear {

// float64 runs the reference loop.
void run(const SparseLinearArgs& args, const ExecutionOptions& options) {
  const LayoutHeader& header = args.header();
  if (args.rows == 0 || header.rows == 0) return;
  if (args.dtype == DType::kFloat64) return run(args, Oracle{});
  if (args.bias != nullptr && args.bias_dtype != DType::kFloat32) {
    const std::vector<float> bias = cpu::widened_bias(args);
    SparseLinearArgs with_bias = args;
    with_bias.bias = bias.data();
    with_bias.bias_dtype = DType::kFloat32;
    return run(with_bias, options);
  }
  const Kernels& kernels = linear::kernels(options.isa);
  if (header.kind == LayoutKind::kMask) return cpu::run_mask(args, options.parallel, kernels);
  // A part of x at a time, so that what is laid out anew stays small.
  for (std::int64_t row = 0; row < args.rows; row += kRowsAtATime) {
    SparseLinearArgs part = args;
    part.rows = std::min<std::int64_t>(kRowsAtATime, args.rows - row);
    const std::int64_t item = dtype_size(args.dtype);
    part.x = static_cast<const std::uint8_t*>(args.x) + row * args.x_stride * item;
    part.y = static_cast<std::uint8_t*>(args.y) + row * args.y_stride * item;
    cpu::run_strips(part, options.parallel, kernels);
  }
}

}  // namespace strop::linear
