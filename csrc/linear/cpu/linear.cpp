#include <algorithm>
#include <vector>

#include "linear/cpu/calls.h"
#include "linear/cpu/scratch.h"

namespace strop::linear::cpu {
namespace {

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

std::int64_t items_a_grain(std::int64_t products, std::int64_t items) {
  const std::int64_t work = std::max<std::int64_t>(products / items, 1);
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

// Vectors of rows whose columns of a block a first cache of 48 KiB holds; two at least.
int registers_of(const LayoutHeader& header, const Kernels& kernels) {
  const std::int64_t fit = 48 * 1024 / (header.block_columns * kernels.lanes * 4);
  const int most = kernels.most_registers[header.interleave == 4 ? 0 : 1];
  return static_cast<int>(std::clamp<std::int64_t>(fit, std::min(most, 2), most));
}

void run_strips(const MaskedLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const LayoutHeader& header = args.header();
  const std::int64_t columns = header.column_blocks() * (header.block_columns + 1);
  const bool one = args.rows == 1 && header.interleave == 4;
  const int lanes = one ? 1 : kernels.lanes;
  const int registers = registers_of(header, kernels);
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
  parallel.for_range(items, items_a_grain(header.count * args.rows, items),
                     [&](std::int64_t begin, std::int64_t end) {
                       multiply(task, Scratch(sums * 4).at<float>(), begin, end);
                     });
}

void run_columns(const MaskedLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const auto& header = *static_cast<const ColumnsHeader*>(args.layout);
  const std::int64_t blocks = header.column_blocks();
  const std::int64_t columns = blocks * (header.block_columns + 1);
  const bool vectors = kernels.column_registers > 0 && args.rows > kernels.column_rows;
  const int lanes = vectors ? kernels.lanes : 1;
  const int most = vectors ? kernels.column_registers : kernels.column_rows;
  const std::vector<PanelTile> tiles = cut_tiles(args.rows, lanes, most, columns);
  const auto count = static_cast<int>(tiles.size());
  const Scratch panels((tiles.back().panel + columns * tiles.back().registers * lanes) * 4);
  const Scratch finite(header.masks != 0 ? count * blocks : 0);
  const ColumnsTask task = {
      {args, panels.at<float>(), tiles.data(), count}, finite.at<bool>(), vectors, lanes};
  parallel.for_range(
      count * blocks, std::max<std::int64_t>(kGrain / (header.block_columns * task.width(0)), 1),
      [&](std::int64_t begin, std::int64_t end) { kernels.place_columns(task, begin, end); });
  const std::int64_t items = task.tile_groups() * header.groups();
  const std::int64_t sums = task.tile_floats() * task.tiles_a_group() * task.groups_at_once();
  parallel.for_range(items, items_a_grain(header.count * args.rows, items),
                     [&](std::int64_t begin, std::int64_t end) {
                       const Scratch scratch(sums * 4);
                       kernels.multiply_columns(task, scratch.at<float>(), begin, end);
                     });
}

}  // namespace
}  // namespace strop::linear::cpu

namespace strop::linear {

BitmapMatrix bitmap_of(const void* layout) {
  const auto* const bytes = static_cast<const std::uint8_t*>(layout);
  const auto& header = *static_cast<const LayoutHeader*>(layout);
  return {{header.values(), header.rows, header.columns, bytes + header.second,
           bytes + header.third, header.count},
          reinterpret_cast<const std::int64_t*>(bytes + header.first)};
}

// float64 runs the reference loop.
void run(const BitmapLinearArgs& args, const ExecutionOptions& options) {
  const std::int64_t rows = args.weight.rows;
  if (args.rows == 0 || rows == 0) return;
  if (args.dtype == DType::kFloat64) return run(args, Oracle{});
  cpu::with_kernels(
      args, rows, options, [&](const BitmapLinearArgs& given, const Kernels& kernels) {
        options.parallel.for_range(rows, cpu::items_a_grain(given.weight.count * given.rows, rows),
                                   [&](std::int64_t begin, std::int64_t end) {
                                     const cpu::Scratch scratch(bitmap_scratch(given) * 4);
                                     kernels.multiply_mask(given, scratch.at<float>(), begin, end);
                                   });
      });
}

void run(const MaskedLinearArgs& args, const ExecutionOptions& options) {
  const LayoutHeader& header = args.header();
  if (header.kind == LayoutKind::kMask) {
    return run(BitmapLinearArgs{args, bitmap_of(args.layout)}, options);
  }
  if (args.rows == 0 || header.rows == 0) return;
  if (args.dtype == DType::kFloat64) return run(args, Oracle{});
  const auto run_part = header.kind == LayoutKind::kColumns ? cpu::run_columns : cpu::run_strips;
  cpu::with_kernels(
      args, header.rows, options, [&](const MaskedLinearArgs& given, const Kernels& kernels) {
        // A part of x at a time, so that what is laid out anew stays small.
        for (std::int64_t row = 0; row < given.rows; row += kRowsAtATime) {
          const std::int64_t count = std::min<std::int64_t>(kRowsAtATime, given.rows - row);
          run_part(cpu::rows_of(given, row, count), options.parallel, kernels);
        }
      });
}

}  // namespace strop::linear
