#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "cpu/quantize_codes.h"
#include "kernels/quantize_arguments.h"
#include "reference/quantize_codes.h"

namespace strop::cpu {
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
  constexpr std::int64_t kElements = 4096, kMostElements = 65536;
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t rows = args.slab_rows();
  const std::int64_t unit =
      args.output == nullptr ? inner.block : std::lcm(inner.block, std::int64_t{8});
  std::int64_t columns = std::max((rows == 1 ? kElements : kMostElements / 2) / rows, unit);
  columns = std::min(columns, inner.block < 16 ? kMaxTileBlocks : kMaxTileBlocks * inner.block);
  columns = columns >= inner.size ? inner.size : columns / unit * unit;
  return rows * columns > kMostElements ? 0 : columns;
}

void run(const CodeTask& task, const Parallel& parallel, const QuantizeRun& how) {
  const std::int64_t tile = task.task.shape.rows * task.task.shape.columns;
  parallel.for_range(
      task.task.shape.tiles, std::max<std::int64_t>(kGrain / tile, 1),
      [&](std::int64_t begin, std::int64_t end) { how.codes->quantize(task, begin, end); });
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
void two_passes(FakeQuantizeArgs args, const ChosenScales& to, const Parallel& parallel,
                const QuantizeRun& how) {
  FakeQuantizeArgs numbered = args;
  const std::int64_t blocks = number_blocks(numbered);
  const ChosenBlocks chosen = choose_blocks(numbered, blocks, parallel, how);
  write_chosen(chosen, args, to);
  if (args.output == nullptr) return;
  numbered.scale = chosen.scale.data();
  numbered.zero_point = chosen.zero_point.data();
  numbered.zero_point_dtype = DType::kInt32;
  run({static_tiles(numbered), {}}, parallel, how);
}

}  // namespace

void quantize(const QuantizeArgs& args, const Parallel& parallel) {
  quantize(
      args, parallel,
      {.kernels = &quantize_kernels(Isa::kActive), .codes = &quantize_codes_kernels(Isa::kActive)});
}

void quantize(const QuantizeArgs& original, const Parallel& parallel, const QuantizeRun& how) {
  if (original.problem.elements() == 0 || original.problem.dtype == DType::kFloat64) {
    return reference::quantize(original);
  }
  FakeQuantizeArgs args = simplified(original.problem, true);
  if (!args.dynamic()) return run({static_tiles(args), {}}, parallel, how);
  float tensor_scale = 0;
  const bool two_levels = args.rule.scales == ScaleKind::kTwoLevels;
  if (two_levels) {
    tensor_scale = find_tensor_scale(original.problem, parallel, how);
    args.tensor_scale = &tensor_scale;
    *static_cast<float*>(original.chosen.tensor_scale) = tensor_scale;
  }
  const std::int64_t columns = block_columns(args);
  if (columns == 0) return two_passes(args, original.chosen, parallel, how);
  const QuantizeTask task = cut_tiles(args, args.slab_rows(), columns);
  const bool idle_threads =
      task.shape.tiles < parallel.threads && args.elements() > 2 * kGrain && !two_levels;
  if (idle_threads) return two_passes(args, original.chosen, parallel, how);
  run({task, original.chosen}, parallel, how);
}

void dequantize(const DequantizeArgs& args, const Parallel& parallel) {
  dequantize(args, parallel, {.codes = &quantize_codes_kernels(Isa::kActive)});
}

void dequantize(const DequantizeArgs& args, const Parallel& parallel, const QuantizeRun& how) {
  if (args.problem.elements() == 0) return;
  if (args.wide || args.problem.dtype == DType::kFloat64) return reference::dequantize(args);
  QuantizeTask task = static_tiles(simplified(args.problem));
  const std::int64_t bytes = args.problem.elements() * dtype_size(args.problem.dtype);
  task.stream = bytes >= how.stream_bytes;
  const std::int64_t tile = task.shape.rows * task.shape.columns;
  parallel.for_range(
      task.shape.tiles, std::max<std::int64_t>(kGrain / tile, 1),
      [&](std::int64_t begin, std::int64_t end) { how.codes->dequantize(task, begin, end); });
}

namespace {

template <class Kernel>
void by_pieces(const BitRows& rows, const Parallel& parallel, Kernel kernel) {
  const std::int64_t pieces = divide_up(rows.count, kBitPiece);
  const std::int64_t grain =
      std::max<std::int64_t>(kGrain / std::max<std::int64_t>(rows.count, 1), 2);
  parallel.for_range(rows.rows * pieces, grain,
                     [&](std::int64_t begin, std::int64_t end) { kernel(rows, begin, end); });
}

}  // namespace

void pack_bits(const BitRows& rows, const Parallel& parallel) {
  by_pieces(rows, parallel, quantize_codes_kernels(Isa::kActive).pack_bits);
}

void unpack_bits(const BitRows& rows, const Parallel& parallel) {
  by_pieces(rows, parallel, quantize_codes_kernels(Isa::kActive).unpack_bits);
}

}  // namespace strop::cpu
