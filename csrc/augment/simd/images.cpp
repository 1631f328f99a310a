// Warps of uint8 images by boxes, and the kernels' table.

#include "augment/kernels.h"
#include "augment/simd/box_rows.h"
#include "augment/simd/boxes.h"
#include "augment/simd/taps.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class Out>
void warp_rows(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  warp_box_rows<Mixed, Out>(args, tile, scratch, stream, 4, [&](std::int64_t stride, Columns seen) {
    if (args.warp.channels == 1) {
      sample_grey(scratch, seen);
    } else if (args.warp.channels == 3) {
      sample_pixels<3>(scratch, stride, seen);
    } else {
      sample_pixels<4>(scratch, stride, seen);
    }
  });
}

void warp(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  switch (tile.method) {
    case TileMethod::kFill:
    case TileMethod::kCopy:
      return copy_pixels(args, tile, scratch, stream);
    case TileMethod::kDirect:
      return warp_directly(args, tile, scratch, stream);
    default:
      break;
  }
  if (args.in_dtype == DType::kUInt8) {
    warp_bytes(args, tile, scratch, stream);
  } else {
    warp_floats(args, tile, scratch, stream);
  }
}

}  // namespace

void warp_bytes(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  if (args.warp.channels == 1) {
    lay_grey_box(args, tile, scratch);
  } else {
    lay_pixel_box(args, tile, scratch);
  }
  by_narrow_image_dtype(args.out_dtype,
                        [&]<class Out>() { warp_rows<Out>(args, tile, scratch, stream); });
}

extern const Kernels kernels;
const Kernels kernels = {.warp = warp, .warp_masks = warp_masks, .gradient = gradient};

}  // namespace strop::augment::simd::STROP_ISA
