// augment_images on a GPU where speed is not the point: float64, for what checks a gradient by
// differences, and images of 2^31 elements.

#include "augment/cuda/images.cuh"
#include "augment/cuda/numbers.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;
namespace {

// One channel of a pixel; of bytes a whole number.
template <class Number>
__device__ __forceinline__ Number sampled(const AugmentArgs& args, std::int64_t plane,
                                          const TapPlaces<std::int64_t>& places, const Taps& taps,
                                          double fill) {
  Number tap[4];
  for (int i = 0; i < 4; ++i) {
    tap[i] = static_cast<Number>(fill);
    if (places.held[i]) tap[i] = number_at<Number>(args.in, args.in_dtype, plane + places.at[i]);
  }
  if (args.in_dtype != DType::kUInt8) return mixed_floats(tap, taps);
  int bytes[4];
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<int>(tap[i]);
  return static_cast<Number>(mixed_bytes(bytes, taps));
}

template <class Number>
__device__ __forceinline__ void make_pixel(const AugmentArgs& args, const PixelRun& run, int k,
                                           const Taps& taps) {
  const ImageStrides& from = args.in_strides;
  const ImageStrides& to = args.out_strides;
  const TapPlaces<std::int64_t> places(taps, from);
  for (int c = 0; c < args.warp.channels; ++c) {
    const std::int64_t plane = run.image * from.image + c * from.channel;
    const Number value = sampled<Number>(args, plane, places, taps, args.fill[c]);
    const Affine<Number> affine = affine_of<Number>(args, c);
    const Number result = value * affine.scale + affine.offset;
    const std::int64_t at =
        run.image * to.image + c * to.channel + run.row * to.row + (run.column + k) * to.column;
    if (args.out_dtype == DType::kUInt8) {
      static_cast<std::uint8_t*>(args.out)[at] = byte_of(result);
    } else {
      put_number(args.out, args.out_dtype, at, result);
    }
  }
}

template <class Number>
__global__ void __launch_bounds__(kTileThreads)
    any_kernel(const __grid_constant__ AugmentArgs args, const __grid_constant__ Tiles tiles) {
  for (std::int64_t tile = blockIdx.x; tile < tiles.all; tile += gridDim.x) {
    const PixelRun first = run_of_thread(args.warp, tiles, tile);
    const PositionMap map = position_map(args.warp, first.image);
    for_each_run(args.warp, first, [&](const PixelRun& run) {
      RunPositions positions(map, run);
#pragma unroll 1
      for (int k = 0; k < run.count; ++k) {
        if (k > 0) positions.advance();
        const bool near = map.near;
        make_pixel<Number>(args, run, k,
                           near ? taps_at(args.warp, positions.x(), positions.y()) : Taps::none());
      }
    });
  }
}

}  // namespace

void augment_any_images(const AugmentArgs& args, const Launch& on) {
  const Tiles tiles(args.warp);
  launch(on, args.wide() ? any_kernel<double> : any_kernel<float>, tiles.all, kTileThreads, args,
         tiles);
}

}  // namespace strop::augment::cuda
