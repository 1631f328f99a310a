// Warps of uint8 images by boxes, and the kernels' table.

#include "cpu/augment.h"

#include "cpu/augment_boxes.h"
#include "cpu/augment_rows.h"
#include "cpu/augment_taps.h"

namespace strop::cpu::STROP_ISA {
namespace {

// Fill where a row does not see the image.
void set_fill(const AugmentArgs& args, WarpRoom& room, Columns seen, int count) {
  for (int c = 0; c < args.warp.channels; ++c) {
    std::int16_t* const words = words_of_row(room, c);
    const auto fill = static_cast<std::int16_t>(args.fill[c] * kMixedOne);
    set_elements(words, seen.begin, fill);
    if (seen.end < count) set_elements(words + seen.end, count - seen.end, fill);
    if (args.warp.fill_mode != FillMode::kHardConstant) continue;
    for (int i = seen.begin; i < seen.end; ++i) {
      words[i] = static_cast<std::int16_t>(room.outside[i] != 0 ? fill : words[i]);
    }
  }
}

template <class Out>
void warp_rows(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  const RowWriter<Mixed, Out> writer(args, room, stream);
  const std::int64_t stride = 4 * tile.box.columns;
  const Locator at = locator(args.warp, tile, 4, static_cast<int>(stride), room);
  const Mixed* rows[kMostImageChannels];
  for (int c = 0; c < kMostImageChannels; ++c) {
    rows[c] = reinterpret_cast<const Mixed*>(words_of_row(room, c));
  }
  const auto count = static_cast<int>(tile.out.columns());
  for (std::int64_t row = tile.out.row; row < tile.out.row_end; ++row) {
    const Columns seen = at.locate(room, row);
    if (args.warp.channels == 1) {
      sample_grey(room, seen);
    } else if (args.warp.channels == 3) {
      sample_pixels<3>(room, stride, seen);
    } else {
      sample_pixels<4>(room, stride, seen);
    }
    set_fill(args, room, seen, count);
    writer.write({tile.image, row, tile.out.column}, rows, count);
  }
  stream_fence();
}

void warp(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  switch (tile.way) {
    case TileWay::kFill:
    case TileWay::kCopy:
      return copy_pixels(args, tile, room, stream);
    case TileWay::kDirect:
      return warp_directly(args, tile, room, stream);
    default:
      break;
  }
  if (args.in_dtype == DType::kUInt8) {
    warp_bytes(args, tile, room, stream);
  } else {
    warp_floats(args, tile, room, stream);
  }
}

}  // namespace

void warp_bytes(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  if (args.warp.channels == 1) {
    lay_grey_box(args, tile, room);
  } else {
    lay_pixel_box(args, tile, room);
  }
  by_out_dtype(args.out_dtype, [&]<class Out>() { warp_rows<Out>(args, tile, room, stream); });
}

extern const AugmentKernels augment;
const AugmentKernels augment = {.warp = warp, .warp_masks = warp_masks, .gradient = gradient};

}  // namespace strop::cpu::STROP_ISA
