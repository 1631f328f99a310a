#include "quantize/reference/fake_quantize.h"

#include <algorithm>
#include <cfloat>
#include <vector>

#include "quantize/arguments.h"
#include "quantize/gradient.h"
#include "quantize/kernels.h"

namespace strop::quantize {
namespace {

// Elements of a tile that is read twice: half of a small L1.
constexpr std::int64_t kDynamicRow = 4096;
// How far ahead of the elements in work memory is asked for: a page or two, which the hardware's
// own prefetcher does not cross, or the next tile, whose extremes are due before its first result.
// Worth 10 % for float32 and 25 % for bfloat16.
constexpr std::int64_t kPrefetchBytes = 8192;
// A block of more elements than this is read twice from memory.
constexpr std::int64_t kLargestCachedBlock = 65536;
// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 32768;
// Blocks whose extremes and parameters are held at a time: 16 bytes each, and 8 more for a thread.
constexpr std::int64_t kMaxHeldBlocks = 16384;
// Extremes that all threads hold together.
constexpr std::int64_t kMaxHeld = 1 << 20;
// A tile of narrower rows than this wastes most of every page it touches.
constexpr std::int64_t kNarrowestRow = 256;

// Fewer columns than the widest vector has lanes; every instruction set cuts alike.
bool narrow_blocks(const FakeQuantizeArgs& args) { return args.dim[args.dims - 1].block < 16; }

// Narrow blocks, and what Note [Shifted range] does not cover of a call: floating zero points, and
// sums that an unbounded format leaves to round.
bool needs_formula(const FakeQuantizeArgs& args) {
  if (args.rule.grid != Grid::kInteger) return narrow_blocks(args);
  const bool unbounded = !(args.rule.range() <= static_cast<double>(FLT_MAX));
  return narrow_blocks(args) || args.zero_point_is_floating() ||
         (unbounded && args.zero_point != nullptr);
}

// A tile as wide as `elements` allow, in whole blocks where a block fits.
std::int64_t tile_columns(const FakeQuantizeArgs& args, std::int64_t elements) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  if (narrow_blocks(args)) elements = std::min(elements, kMaxTileBlocks);
  if (inner.block >= elements) return std::min(elements, inner.size);
  const std::int64_t blocks = std::min(elements / inner.block, kMaxTileBlocks);
  return std::min(blocks * inner.block, inner.size);
}

// Tiles that need not hold whole blocks.
QuantizeTask free_tiles(const FakeQuantizeArgs& args, std::int64_t stream_bytes) {
  const std::int64_t columns = tile_columns(args, kStaticTile);
  const std::int64_t rows = std::clamp<std::int64_t>(kStaticTile / columns, 1, args.slab_rows());
  return cut_tiles(args, rows, columns, stream_bytes);
}

// Tiles of whole blocks.
QuantizeTask block_tiles(const FakeQuantizeArgs& args, std::int64_t stream_bytes) {
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t rows = args.slab_rows();
  const std::int64_t elements = rows == 1 ? kDynamicRow : kLargestCachedBlock / 2;
  const std::int64_t columns = std::max(elements / rows, inner.block);
  return cut_tiles(args, rows, tile_columns(args, columns), stream_bytes);
}

void run_tiles(const QuantizeTask& task, const ExecutionOptions& options) {
  const auto kernel = kernels(options.isa).fake_quantize;
  const std::int64_t tile = task.shape.rows * task.shape.columns;
  options.parallel.for_range(
      task.shape.tiles, std::max<std::int64_t>(kGrain / tile, 1),
      [&](std::int64_t begin, std::int64_t end) { kernel(task, begin, end); });
}

// Extremes of every block, ordered: each share of the tiles into its own arrays, which are then
// merged. Neither the shares nor their order change a minimum.
struct BlockExtremes {
  std::vector<std::int32_t> min;
  std::vector<std::int32_t> max;
};

BlockExtremes find_extremes(const QuantizeTask& task, std::int64_t blocks,
                            const ExecutionOptions& options) {
  const std::int64_t tiles = task.shape.tiles;
  const std::int64_t worth = divide_up(tiles * task.shape.rows * task.shape.columns, kGrain);
  const std::int64_t shares =
      std::clamp<std::int64_t>(std::min<std::int64_t>(worth, options.parallel.threads), 1,
                               std::min(tiles, std::max<std::int64_t>(kMaxHeld / blocks, 1)));
  const auto kernel = kernels(options.isa).extremes;
  BlockExtremes all;
  all.min.assign(static_cast<std::size_t>(shares * blocks), 0);
  all.max.assign(static_cast<std::size_t>(shares * blocks), 0);
  options.parallel.for_range(shares, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t share = begin; share < end; ++share) {
      kernel(task, tiles * share / shares, tiles * (share + 1) / shares,
             all.min.data() + share * blocks, all.max.data() + share * blocks);
    }
  });
  for (std::int64_t i = blocks; i < shares * blocks; ++i) {
    const auto block = static_cast<std::size_t>(i % blocks);
    all.min[block] = std::min(all.min[block], all.min[static_cast<std::size_t>(i)]);
    all.max[block] = std::max(all.max[block], all.max[static_cast<std::size_t>(i)]);
  }
  return all;
}

float value_from_ordered(std::int32_t ordered, DType dtype) {
  const int bits = 8 * dtype_size(dtype);
  const std::int32_t raw = bits_from_ordered(ordered, bits);
  if (dtype == DType::kBFloat16) return to_float(BFloat16{static_cast<std::uint16_t>(raw)});
  if (dtype == DType::kFloat16) return to_float(Float16{static_cast<std::uint16_t>(raw)});
  return bits_float(static_cast<std::uint32_t>(raw));
}

void in_halves(const FakeQuantizeArgs& args, const ExecutionOptions& options);

// Blocks that no cache holds, or fewer than threads.
void two_passes(FakeQuantizeArgs args, const ExecutionOptions& options) {
  const std::int64_t blocks = assign_block_strides(args);
  if (blocks > kMaxHeldBlocks) return in_halves(args, options);
  const ChosenBlocks chosen = choose_blocks(args, blocks, options);
  args.scale = chosen.scale.data();
  args.zero_point = chosen.zero_point.data();
  args.zero_point_dtype = DType::kInt32;
  run_tiles(free_tiles(args, options.stream_bytes), options);
}

// Cut between blocks, along the dimension that has most of them.
void in_halves(const FakeQuantizeArgs& args, const ExecutionOptions& options) {
  const QuantizeDim* const most = std::max_element(
      args.dim, args.dim + args.dims,
      [](const QuantizeDim& a, const QuantizeDim& b) { return a.blocks() < b.blocks(); });
  const std::int64_t cut_at = most->blocks() / 2 * most->block;
  FakeQuantizeArgs first = args, second = args;
  first.dim[most - args.dim].size = cut_at;
  second.dim[most - args.dim].size = most->size - cut_at;
  const std::int64_t item = dtype_size(args.dtype);
  second.input = static_cast<const char*>(args.input) + cut_at * most->input * item;
  second.output = static_cast<char*>(args.output) + cut_at * most->output * item;
  second.first_index += cut_at * most->index;
  two_passes(first, options);
  two_passes(second, options);
}

void by_reference(const FakeQuantizeArgs& original, const Parallel& parallel) {
  double tensor_scale = 0;
  const FakeQuantizeArgs args = reference::prepared(original, tensor_scale);
  const std::int64_t blocks = reference::block_count(args);
  const std::int64_t grain = std::max<std::int64_t>(blocks * kGrain / args.elements(), 1);
  parallel.for_range(blocks, grain, [&](std::int64_t begin, std::int64_t end) {
    reference::fake_quantize(args, begin, end);
  });
}

}  // namespace

ChosenBlocks choose_blocks(const FakeQuantizeArgs& args, std::int64_t blocks,
                           const ExecutionOptions& options) {
  const BlockExtremes extremes =
      find_extremes(free_tiles(args, options.stream_bytes), blocks, options);
  ChosenBlocks chosen;
  for (std::size_t i = 0; i < extremes.max.size() && i < static_cast<std::size_t>(blocks); ++i) {
    const float max = value_from_ordered(extremes.max[i], args.dtype);
    const float min = value_from_ordered(extremes.min[i], args.dtype);
    const QuantizeParams<float> params = choose_params(min, max, 1.0f, args.rule);
    chosen.scale.push_back(params.scale);
    // A NaN scale makes everything NaN; its zero point has no integer.
    const bool finite = params.scale == params.scale;
    chosen.zero_point.push_back(finite ? static_cast<std::int32_t>(params.zero_point) : 0);
  }
  return chosen;
}

float find_tensor_scale(FakeQuantizeArgs args, const ExecutionOptions& options) {
  for (int d = 0; d < args.dims; ++d) args.dim[d].block = args.dim[d].size;
  args = simplified(args);
  const std::int64_t blocks = assign_block_strides(args);
  const BlockExtremes extremes =
      find_extremes(free_tiles(args, options.stream_bytes), blocks, options);
  return choose_tensor_scale(value_from_ordered(extremes.max[0], args.dtype), args.rule);
}

QuantizeTask cut_tiles(const FakeQuantizeArgs& args, std::int64_t rows, std::int64_t columns,
                       std::int64_t stream_bytes) {
  QuantizeTask task{};
  task.args = args;
  task.stream =
      args.input != args.output && args.elements() * dtype_size(args.dtype) >= stream_bytes;
  task.ahead = args.dynamic() ? columns : kPrefetchBytes / dtype_size(args.dtype);
  task.narrow = narrow_blocks(args);
  task.exact = needs_formula(args);
  task.shape = tile_shape(args, rows, columns);
  return task;
}

QuantizeTile tile_at(const QuantizeTask& task, std::int64_t number) {
  const FakeQuantizeArgs& args = task.args;
  const QuantizeDim& inner = task.inner();
  QuantizeTile tile{};
  const std::int64_t column = number % task.shape.column_pieces * task.shape.columns;
  number /= task.shape.column_pieces;
  std::int64_t row = number % task.shape.row_pieces * task.shape.rows;
  tile.slab = number / task.shape.row_pieces;
  tile.first_block = column / inner.block;
  tile.into_block = column % inner.block;
  tile.columns = std::min(task.shape.columns, inner.size - column);
  tile.blocks = divide_up(tile.into_block + tile.columns, inner.block);
  tile.input = column * inner.input;
  tile.output = column * inner.output;
  tile.index = args.first_index + column * inner.index;
  tile.scale = tile.first_block * inner.scale;
  tile.zero_point = tile.first_block * inner.zero_point;
  std::int64_t slab = tile.slab;
  std::int64_t slab_rows = 1;
  for (int d = args.dims - 2; d >= 0; --d) {
    const QuantizeDim& dim = args.dim[d];
    const std::int64_t block = slab % dim.blocks();
    slab /= dim.blocks();
    tile.extent[d] = std::min(dim.block, dim.size - block * dim.block);
    slab_rows *= tile.extent[d];
    tile.at[d] = row % tile.extent[d];
    const std::int64_t position = block * dim.block + tile.at[d];
    row /= tile.extent[d];
    tile.input += position * dim.input;
    tile.output += position * dim.output;
    tile.index += position * dim.index;
    tile.scale += block * dim.scale;
    tile.zero_point += block * dim.zero_point;
  }
  const std::int64_t first_row = (number % task.shape.row_pieces) * task.shape.rows;
  tile.rows = std::clamp<std::int64_t>(slab_rows - first_row, 0, task.shape.rows);
  return tile;
}

void QuantizeTile::next_row(const FakeQuantizeArgs& args) {
  for (int d = args.dims - 2; d >= 0; --d) {
    const QuantizeDim& dim = args.dim[d];
    input += dim.input;
    output += dim.output;
    index += dim.index;
    if (++at[d] < extent[d]) return;
    at[d] = 0;
    input -= extent[d] * dim.input;
    output -= extent[d] * dim.output;
    index -= extent[d] * dim.index;
  }
}

// float64 runs the reference loop.
void run(const FakeQuantizeArgs& original, const ExecutionOptions& options) {
  if (original.elements() == 0) return;
  if (original.dtype == DType::kFloat64) return by_reference(original, options.parallel);
  FakeQuantizeArgs args = simplified(original);
  if (!args.dynamic()) return run_tiles(free_tiles(args, options.stream_bytes), options);
  float tensor_scale = 0;
  if (args.rule.scales == ScaleKind::kTwoLevels) {
    tensor_scale = find_tensor_scale(original, options);
    args.tensor_scale = &tensor_scale;
  }
  const QuantizeDim& inner = args.dim[args.dims - 1];
  const std::int64_t row = std::max(inner.block, std::min(inner.size, kNarrowestRow));
  const QuantizeTask task = block_tiles(args, options.stream_bytes);
  const bool idle_threads = task.shape.tiles < options.parallel.threads &&
                            args.elements() > 2 * kGrain &&
                            args.rule.scales != ScaleKind::kTwoLevels;
  if (args.slab_rows() * row > kLargestCachedBlock || idle_threads)
    return two_passes(args, options);
  run_tiles(task, options);
}

}  // namespace strop::quantize
