#include <algorithm>
#include <memory>

#include "augment/kernels.h"

namespace strop::augment::cpu {
namespace {

// Where there are few images, each is cut into bands of rows.
constexpr std::int64_t kPiecesAThread = 4;
constexpr std::int64_t kMinBand = 16;

struct Bands {
  std::int64_t count;  // of an image
  std::int64_t rows;   // of a band
};

Bands bands_of(const Warp& warp, const Parallel& parallel) {
  const std::int64_t pieces = parallel.threads > 1 ? kPiecesAThread * parallel.threads : 1;
  const std::int64_t wanted = (pieces + warp.batch - 1) / warp.batch;
  const std::int64_t most = std::max<std::int64_t>(warp.out_height / kMinBand, 1);
  const std::int64_t count = std::min(wanted, most);
  return {count, (warp.out_height + count - 1) / count};
}

WarpTile tile_of(const Warp& warp, const Tiling& shape, std::int64_t pixel_bytes, WarpTile tile) {
  tile.method = shape.method;
  if (tile.method == TileMethod::kFill || tile.method == TileMethod::kCopy) return tile;
  if (is_outside(warp, tile.map, tile.out)) {
    tile.method = TileMethod::kFill;
  } else if (tile.method == TileMethod::kBox) {
    tile.box = box_of(warp, tile.map, tile.out);
    if (!tile.box.fits(pixel_bytes)) tile.method = TileMethod::kDirect;
  }
  return tile;
}

// Calls function(tile) for the tiles of rows [row, row_end) of an image.
template <class Function>
void for_each_tile(const Warp& warp, std::int64_t image, std::int64_t row, std::int64_t row_end,
                   std::int64_t pixel_bytes, Function function) {
  const PositionMap map = position_map(warp, image);
  const Tiling shape = tiling_of(warp, map, pixel_bytes);
  for (; row < row_end; row += shape.rows) {
    for (std::int64_t column = 0; column < warp.out_width; column += shape.columns) {
      const OutTile out = {row, std::min(row + shape.rows, row_end), column,
                           std::min(column + shape.columns, warp.out_width)};
      function(
          tile_of(warp, shape, pixel_bytes,
                  {.method = shape.method, .image = image, .map = map, .out = out, .box = {}}));
    }
  }
}

// Calls function(tile, scratch) for all tiles, by all threads.
template <class Function>
void for_each_tile_of_all(const Warp& warp, std::int64_t pixel_bytes, const Parallel& parallel,
                          Function function) {
  const Bands bands = bands_of(warp, parallel);
  parallel.for_range(warp.batch * bands.count, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<WarpScratch> scratch(new WarpScratch);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i % bands.count * bands.rows;
      const std::int64_t row_end = std::min(row + bands.rows, warp.out_height);
      for_each_tile(warp, i / bands.count, row, row_end, pixel_bytes,
                    [&](const WarpTile& tile) { function(tile, *scratch); });
    }
  });
}

}  // namespace
}  // namespace strop::augment::cpu

namespace strop::augment {

// float64 runs the reference loop.
void run(const AugmentArgs& args, const ExecutionOptions& options) {
  if (args.warp.empty()) return;
  if (args.wide()) return run(args, Oracle{});
  const Warp& warp = args.warp;
  const Kernels& kernels = augment::kernels(options.isa);
  const std::int64_t elements = warp.batch * warp.channels * warp.out_height * warp.out_width;
  const bool stream = elements * dtype_size(args.out_dtype) >= options.stream_bytes;
  cpu::for_each_tile_of_all(warp, bytes_of_pixel(args.in_dtype, warp.channels), options.parallel,
                            [&](const WarpTile& tile, WarpScratch& scratch) {
                              kernels.warp(args, tile, scratch, stream);
                            });
}

void run(const WarpMasksArgs& args, const ExecutionOptions& options) {
  if (args.warp.empty()) return;
  const Kernels& kernels = augment::kernels(options.isa);
  cpu::for_each_tile_of_all(
      args.warp, args.item, options.parallel,
      [&](const WarpTile& tile, WarpScratch& scratch) { kernels.warp_masks(args, tile, scratch); });
}

void run(const AugmentGradientArgs& args, const ExecutionOptions& options) {
  if (args.wide()) return run(args, Oracle{});
  const Warp& warp = args.warp;
  if (warp.in_height == 0 || warp.in_width == 0) return;
  const Kernels& kernels = augment::kernels(options.isa);
  const std::int64_t rows =
      std::clamp<std::int64_t>(kScratchSums / warp.in_width, 1, warp.in_height);
  const std::int64_t bands = (warp.in_height + rows - 1) / rows;
  const auto make_bands = [&](std::int64_t begin, std::int64_t end) {
    const std::unique_ptr<WarpScratch> scratch(new WarpScratch);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = i % bands * rows, plane = i / bands;
      const GradientBand band = {.image = plane / warp.channels,
                                 .channel = plane % warp.channels,
                                 .row = row,
                                 .row_end = std::min(row + rows, warp.in_height)};
      kernels.gradient(args, band, *scratch);
    }
  };
  options.parallel.for_range(warp.batch * warp.channels * bands, 1, make_bands);
}

}  // namespace strop::augment
