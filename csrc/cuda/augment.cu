// augment_images on a GPU.

#include "cuda/augment.h"
#include "cuda/augment_pixels.cuh"

namespace strop::cuda {
namespace {

// How the pixels of both sides lie.
struct Layouts {
  Pixels in;
  Pixels out;
};

// Scale and offset of each channel, which take divisions in double: once for a block.
template <int kChannels>
struct Affines {
  Affine<float> of[kChannels];

  __device__ __forceinline__ void set(const AugmentArgs& args) {
    const int c = static_cast<int>(threadIdx.x);
    if (c < kChannels) of[c] = affine_of<float>(args, c);
  }

  __device__ __forceinline__ void apply(PixelValues<kChannels>& values) const {
#pragma unroll
    for (int i = 0; i < kChannels * kPixels; ++i) {
      float& value = values[i / kPixels][i % kPixels];
      value = value * of[i / kPixels].scale + of[i / kPixels].offset;
    }
  }
};

template <int kChannels>
__device__ __forceinline__ void store(const AugmentArgs& args, Pixels how, const PixelRun& run,
                                      const PixelValues<kChannels>& values) {
  const ImageStrides& strides = args.out_strides;
  const std::int64_t at =
      run.image * strides.image + run.row * strides.row + run.column * strides.column;
  const auto put = [&]<class Out>() {
    store_pixels(static_cast<Out*>(args.out) + at, strides, how, run.count, values);
  };
  switch (args.out_dtype) {
    case DType::kUInt8:
      return put.template operator()<std::uint8_t>();
    case DType::kBFloat16:
      return put.template operator()<BFloat16>();
    case DType::kFloat16:
      return put.template operator()<Float16>();
    default:
      return put.template operator()<float>();
  }
}

// One channel of a pixel.
template <class In>
__device__ __forceinline__ float sampled(const In* plane, const TapPlaces& places, const Taps& taps,
                                         float fill) {
  constexpr bool kBytes = std::is_same_v<In, std::uint8_t>;
  std::conditional_t<kBytes, int, float> tap[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (kBytes) {
      tap[i] = places.held[i] ? plane[places.at[i]] : static_cast<int>(fill);
    } else {
      tap[i] = places.held[i] ? widened(plane[places.at[i]]) : fill;
    }
  }
  if constexpr (kBytes) {
    return static_cast<float>(mixed_bytes(tap, taps));
  } else {
    return mixed_floats(tap, taps);
  }
}

template <class In, int kChannels>
__device__ __forceinline__ void sample_pixels(const AugmentArgs& args, const PositionMap& map,
                                              const PixelRun& run, PixelValues<kChannels>& values) {
  const In* const image = static_cast<const In*>(args.in) + run.image * args.in_strides.image;
  const RunPositions positions(map, run);
#pragma unroll
  for (int k = 0; k < kPixels; ++k) {
    const int existing = k < run.count ? k : run.count - 1;
    const Taps taps =
        taps_at(args.warp, map.near, positions.x_at(existing), positions.y_at(existing));
    const TapPlaces places(taps, args.in_strides);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      values[c][k] = sampled(image + c * args.in_strides.channel, places, taps, args.fill[c]);
    }
  }
}

template <class In, int kChannels>
__global__ void __launch_bounds__(kTileThreads)
    warp_kernel(const __grid_constant__ AugmentArgs args, const __grid_constant__ Tiles tiles,
                Pixels how) {
  __shared__ PositionMap map;
  __shared__ Affines<kChannels> affines;
  affines.set(args);
  for (std::int64_t tile = blockIdx.x; tile < tiles.all; tile += gridDim.x) {
    const PixelRun run = run_of_thread(args.warp, tiles, tile);
    __syncthreads();  // until the last tile's map is done with
    if (threadIdx.x == 0) map = position_map(args.warp, run.image);
    __syncthreads();
    if (run.count <= 0) continue;
    PixelValues<kChannels> values;
    sample_pixels<In, kChannels>(args, map, run, values);
    affines.apply(values);
    store<kChannels>(args, how, run, values);
  }
}

// Where each pixel becomes the one in its place: `rows` divides runs by those of a row.
template <class In, int kChannels>
__global__ void __launch_bounds__(kTileThreads)
    normalize_kernel(const __grid_constant__ AugmentArgs args, const __grid_constant__ Divider rows,
                     const __grid_constant__ Divider images, Layouts how) {
  __shared__ Affines<kChannels> affines;
  affines.set(args);
  __syncthreads();
  const std::int64_t all = args.warp.batch * images.divisor() * rows.divisor();
  const std::int64_t step = std::int64_t{gridDim.x} * kTileThreads;
  for (std::int64_t number = std::int64_t{blockIdx.x} * kTileThreads + threadIdx.x; number < all;
       number += step) {
    const std::int64_t row = rows.quotient(number), image = images.quotient(row);
    const std::int64_t column = (number - row * rows.divisor()) * kPixels;
    const std::int64_t left = args.warp.out_width - column;
    const PixelRun run = {image, static_cast<int>(row - image * images.divisor()),
                          static_cast<int>(column),
                          left < kPixels ? static_cast<int>(left) : kPixels};
    const ImageStrides& strides = args.in_strides;
    const auto* const from = static_cast<const In*>(args.in) + image * strides.image +
                             run.row * strides.row + column * strides.column;
    PixelValues<kChannels> values;
    load_pixels<kChannels>(from, strides, how.in, run.count, values);
    affines.apply(values);
    store<kChannels>(args, how.out, run, values);
  }
}

template <class In, int kChannels>
void run_as(const AugmentArgs& args, const Launch& on) {
  const Warp& warp = args.warp;
  const auto layout = [&](const void* data, DType dtype, const ImageStrides& strides) {
    return layout_of(data, dtype_size(dtype), strides, warp.channels);
  };
  const Layouts how = {layout(args.in, args.in_dtype, args.in_strides),
                       layout(args.out, args.out_dtype, args.out_strides)};
  const bool same = warp.in_height == warp.out_height && warp.in_width == warp.out_width;
  if (warp.matrices != nullptr || !same) {
    const Tiles tiles(warp);
    launch(on, warp_kernel<In, kChannels>, tiles.all, kTileThreads, args, tiles, how.out);
    return;
  }
  const Divider rows((warp.out_width + kPixels - 1) / kPixels), images(warp.out_height);
  const std::int64_t runs = warp.batch * images.divisor() * rows.divisor();
  launch(on, normalize_kernel<In, kChannels>, (runs + kTileThreads - 1) / kTileThreads,
         kTileThreads, args, rows, images, how);
}

}  // namespace

void augment_images(const AugmentArgs& args, const Launch& on) {
  if (args.warp.empty()) return;
  if (args.wide()) return augment_wide_images(args, on);
  by_channels(args.warp.channels, [&]<int kChannels>() {
    if (args.in_dtype == DType::kUInt8) return run_as<std::uint8_t, kChannels>(args, on);
    by_narrow_dtype(args.in_dtype, [&]<class In>() { run_as<In, kChannels>(args, on); });
  });
}

}  // namespace strop::cuda
