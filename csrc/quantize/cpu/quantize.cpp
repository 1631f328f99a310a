#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "quantize/arguments.h"
#include "quantize/kernels.h"

namespace strop::quantize::cpu {
namespace {

// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 32768;

std::int64_t most_columns(const FakeQuantizeArgs& args) {
  // A tile that begins inside a block has one more.
  const QuantizeDim& inner = args.dim[args.dims - 1];
  if (inner.block < 16) return kMaxTileBlocks - 16;
  return std::min(kStaticTile, (kMaxTileBlocks - 1) * inner.block);
}

QuantizeTask static_tiles(const FakeQuantizeArgs& args) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t columns = std::min(most_columns(args) / 8 * 8, inner.size);
  const std::int64_t rows = std::clamp<std::int64_t>(kStaticTile / columns, 1, args.slab_rows());
  return cut_tiles(args, rows, columns);
}

// Columns of tiles of whole blocks and whole bytes; 0 where a cache does not hold such.
std::int64_t block_columns(const FakeQuantizeArgs& args) {
  constexpr std::int64_t kElements = 4096, kMaxElements = 65536;
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t rows = args.slab_rows();
  const std::int64_t unit =
      args.output == nullptr ? inner.block : std::lcm(inner.block, std::int64_t{8});
  std::int64_t columns = std::max((rows == 1 ? kElements : kMaxElements / 2) / rows, unit);
  columns = std::min(columns, inner.block < 16 ? kMaxTileBlocks : kMaxTileBlocks * inner.block);
  columns = columns >= inner.size ? inner.size : columns / unit * unit;
  return rows * columns > kMaxElements ? 0 : columns;
}

// The tiles by a kernel of them.
template <class Task>
void run_tiles(const Task& task, const TileShape& shape, const Parallel& parallel,
               void (*kernel)(const Task&, std::int64_t, std::int64_t)) {
  const std::int64_t grain = std::max<std::int64_t>(kGrain / (shape.rows * shape.columns), 1);
  parallel.for_range(shape.tiles, grain,
                     [&](std::int64_t begin, std::int64_t end) { kernel(task, begin, end); });
}

void run_codes(const CodeTask& task, const ExecutionOptions& options) {
  run_tiles(task, task.task.shape, options.parallel, kernels(options.isa).quantize);
}

// Writes what was chosen for the blocks, by their numbers, to where it belongs.
void write_chosen(const ChosenBlocks& blocks, const FakeQuantizeArgs& args,
                  const ChosenScales& to) {
  for (std::size_t number = 0; number < blocks.scale.size(); ++number) {
    std::int64_t at = 0;
    auto rest = static_cast<std::int64_t>(number);
    for (int d = args.dims - 1; d >= 0; --d) {
      at += rest % args.dim[d].blocks() * args.dim[d].scale;
      rest /= args.dim[d].blocks();
    }
    if (args.rule.scales == ScaleKind::kPowerOfTwo) {
      static_cast<std::uint8_t*>(to.scale)[at] = power_to_byte(blocks.scale[number]);
    } else {
      static_cast<float*>(to.scale)[at] = blocks.scale[number];
    }
    if (to.zero_point != nullptr) to.zero_point[at] = blocks.zero_point[number];
  }
}

// Blocks that no cache holds: their extremes first.
void two_passes(FakeQuantizeArgs args, const ChosenScales& to, const ExecutionOptions& options) {
  FakeQuantizeArgs numbered = args;
  const std::int64_t blocks = assign_block_strides(numbered);
  const ChosenBlocks chosen = choose_blocks(numbered, blocks, options);
  write_chosen(chosen, args, to);
  if (args.output == nullptr) return;
  numbered.scale = chosen.scale.data();
  numbered.zero_point = chosen.zero_point.data();
  numbered.zero_point_dtype = DType::kInt32;
  run_codes({static_tiles(numbered), {}}, options);
}

void by_pieces(const BitRows& rows, const Parallel& parallel,
               void (*kernel)(const BitRows&, std::int64_t, std::int64_t)) {
  const std::int64_t pieces = divide_up(rows.count, kBitPiece);
  const std::int64_t grain =
      std::max<std::int64_t>(kGrain / std::max<std::int64_t>(rows.count, 1), 2);
  parallel.for_range(rows.rows * pieces, grain,
                     [&](std::int64_t begin, std::int64_t end) { kernel(rows, begin, end); });
}

}  // namespace
}  // namespace strop::quantize::cpu

namespace strop::quantize {

// float64 runs the reference loops, here and below.
void run(const QuantizeArgs& original, const ExecutionOptions& options) {
  using namespace cpu;
  if (original.problem.elements() == 0 || original.problem.dtype == DType::kFloat64) {
    return run(original, Oracle{});
  }
  FakeQuantizeArgs args = simplified(original.problem, true);
  if (!args.dynamic()) return run_codes({static_tiles(args), {}}, options);
  float tensor_scale = 0;
  const bool two_levels = args.rule.scales == ScaleKind::kTwoLevels;
  if (two_levels) {
    tensor_scale = find_tensor_scale(original.problem, options);
    args.tensor_scale = &tensor_scale;
    *static_cast<float*>(original.chosen.tensor_scale) = tensor_scale;
  }
  const std::int64_t columns = block_columns(args);
  if (columns == 0) return two_passes(args, original.chosen, options);
  const QuantizeTask task = cut_tiles(args, args.slab_rows(), columns);
  const bool idle_threads =
      task.shape.tiles < options.parallel.threads && args.elements() > 2 * kGrain && !two_levels;
  if (idle_threads) return two_passes(args, original.chosen, options);
  run_codes({task, original.chosen}, options);
}

void run(const DequantizeArgs& args, const ExecutionOptions& options) {
  if (args.problem.elements() == 0) return;
  if (args.wide || args.problem.dtype == DType::kFloat64) return run(args, Oracle{});
  QuantizeTask task = cpu::static_tiles(simplified(args.problem));
  const std::int64_t bytes = args.problem.elements() * dtype_size(args.problem.dtype);
  task.stream = bytes >= options.stream_bytes;
  cpu::run_tiles(task, task.shape, options.parallel, kernels(options.isa).dequantize);
}

void run(const PackArgs& rows, const ExecutionOptions& options) {
  cpu::by_pieces(rows, options.parallel, kernels(options.isa).pack_bits);
}

void run(const UnpackArgs& rows, const ExecutionOptions& options) {
  cpu::by_pieces(rows, options.parallel, kernels(options.isa).unpack_bits);
}

}  // namespace strop::quantize
