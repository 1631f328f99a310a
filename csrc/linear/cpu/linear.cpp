#include <algorithm>
#include <vector>

#include "linear/cpu/scratch.h"
#include "linear/kernels.h"

namespace strop::linear::cpu {
namespace {

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t items_a_grain(const MaskedLinearArgs& args, std::int64_t items, std::int64_t rows) {
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

void run_strips(const MaskedLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const LayoutHeader& header = args.header();
  const std::int64_t columns = header.column_blocks() * (header.block_columns + 1);
  const bool one = args.rows == 1 && header.interleave == 4;
  const int lanes = one ? kOneLanes : kernels.lanes;
  const int registers = kernels.most_registers[header.interleave == 4 ? 0 : 1];
  const std::vector<PanelTile> tiles = cut_tiles(args.rows, lanes, registers, columns);
  const PanelTile& last = tiles.back();
  const Scratch panels((last.panel + columns * last.registers * lanes) * 4);
  const StripTask task = {args, panels.at<float>(), tiles.data(), static_cast<int>(tiles.size())};
  const std::int64_t pieces = task.tile_count * header.column_blocks();
  parallel.for_range(
      pieces, std::max<std::int64_t>(kGrain / (header.block_columns * lanes * 4), 1),
      [&](std::int64_t begin, std::int64_t end) { kernels.fill_panels(task, begin, end); });
  const std::int64_t items = task.groups() * header.row_blocks();
  const auto multiply = one ? kernels.multiply_one : kernels.multiply_strips;
  const std::int64_t sums = task.tile_sums(lanes) * std::min(task.tile_count, kMaxTiles);
  parallel.for_range(items, items_a_grain(args, items, args.rows),
                     [&](std::int64_t begin, std::int64_t end) {
                       multiply(task, Scratch(sums * 4).at<float>(), begin, end);
                     });
}

void run_mask(const MaskedLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const LayoutHeader& header = args.header();
  parallel.for_range(header.rows, items_a_grain(args, header.rows, args.rows),
                     [&](std::int64_t begin, std::int64_t end) {
                       const Scratch words(header.row_words() * 256);
                       kernels.multiply_mask(args, words.at<float>(), begin, end);
                     });
}

}  // namespace
}  // namespace strop::linear::cpu

namespace strop::linear {

// float64 runs the reference loop.
void run(const MaskedLinearArgs& args, const ExecutionOptions& options) {
  const LayoutHeader& header = args.header();
  if (args.rows == 0 || header.rows == 0) return;
  if (args.dtype == DType::kFloat64) return run(args, Oracle{});
  if (args.bias != nullptr && args.bias_dtype != DType::kFloat32) {
    const std::vector<float> bias = cpu::widened_bias(args, header.rows);
    MaskedLinearArgs with_bias = args;
    with_bias.bias = bias.data();
    with_bias.bias_dtype = DType::kFloat32;
    return run(with_bias, options);
  }
  const Kernels& kernels = linear::kernels(args.isa == Isa::kActive ? options.isa : args.isa);
  if (header.kind == LayoutKind::kMask) return cpu::run_mask(args, options.parallel, kernels);
  // A part of x at a time, so that what is laid out anew stays small.
  for (std::int64_t row = 0; row < args.rows; row += kRowsAtATime) {
    const std::int64_t count = std::min<std::int64_t>(kRowsAtATime, args.rows - row);
    cpu::run_strips(cpu::rows_of(args, row, count), options.parallel, kernels);
  }
}

}  // namespace strop::linear
