// augment_images in float64 on a GPU, for what checks a gradient by differences.

#include "cuda/augment.cuh"
#include "cuda/augment.h"
#include "cuda/augment_numbers.cuh"

namespace strop::cuda {
namespace {

// One channel of a pixel; of bytes a whole number, as the kernel of float32 has it.
__device__ __forceinline__ double sampled(const AugmentArgs& args, std::int64_t plane,
                                          const TapPlaces& places, const Taps& taps, double fill) {
  double tap[4];
  for (int i = 0; i < 4; ++i) {
    tap[i] = fill;
    if (places.held[i]) tap[i] = number_at<double>(args.in, args.in_dtype, plane + places.at[i]);
  }
  if (args.in_dtype != DType::kUInt8) return mixed_floats(tap, taps);
  int bytes[4];
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<int>(tap[i]);
  return mixed_bytes(bytes, taps);
}

__device__ __forceinline__ void make_pixel(const AugmentArgs& args, const PixelRun& run, int k,
                                           const Taps& taps) {
  const TapPlaces places(taps, args.in_strides);
  const ImageStrides& from = args.in_strides;
  const ImageStrides& to = args.out_strides;
  for (int c = 0; c < args.warp.channels; ++c) {
    const double value = sampled(args, run.image * from.image + c * from.channel, places, taps,
                                 static_cast<double>(args.fill[c]));
    const Affine<double> affine = affine_of<double>(args, c);
    const double result = value * affine.scale + affine.offset;
    const std::int64_t at =
        run.image * to.image + c * to.channel + run.row * to.row + (run.column + k) * to.column;
    if (args.out_dtype == DType::kUInt8) {
      static_cast<std::uint8_t*>(args.out)[at] = byte_of(result);
    } else {
      put_number(args.out, args.out_dtype, at, result);
    }
  }
}

__global__ void __launch_bounds__(kTileThreads)
    wide_kernel(const __grid_constant__ AugmentArgs args, const __grid_constant__ Tiles tiles) {
  for (std::int64_t tile = blockIdx.x; tile < tiles.all; tile += gridDim.x) {
    const PixelRun run = run_of_thread(args.warp, tiles, tile);
    if (run.count <= 0) continue;
    const PositionMap map = position_map(args.warp, run.image);
    const RunPositions positions(map, run);
    for (int k = 0; k < run.count; ++k) {
      make_pixel(args, run, k, taps_at(args.warp, map.near, positions.x_at(k), positions.y_at(k)));
    }
  }
}

}  // namespace

void augment_wide_images(const AugmentArgs& args, const Launch& on) {
  const Tiles tiles(args.warp);
  launch(on, wide_kernel, tiles.all, kTileThreads, args, tiles);
}

}  // namespace strop::cuda
