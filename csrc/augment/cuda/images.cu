// augment_images on a GPU.

#include "augment/cuda/pixels.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;
namespace {

// How the pixels of both sides lie.
struct Layouts {
  Pixels in;
  Pixels out;
};

// What a block's threads know of each channel. Scales take divisions in double: once for a block.
template <class Fill, int kChannels>
struct Channels {
  Affine<float> affine[kChannels];
  Fill fill[kChannels];

  __device__ __forceinline__ void set(const AugmentArgs& args) {
    const int c = static_cast<int>(threadIdx.x);
    if (c >= kChannels) return;
    affine[c] = affine_of<float>(args, c);
    fill[c] = static_cast<Fill>(args.fill[c]);
  }

  __device__ __forceinline__ void apply(PixelValues<kChannels>& values) const {
#pragma unroll
    for (int i = 0; i < kChannels * kPixels; ++i) {
      float& value = values[i / kPixels][i % kPixels];
      value = value * affine[i / kPixels].scale + affine[i / kPixels].offset;
    }
  }
};

// What the taps of an image are mixed as.
template <class In>
using Tap = std::conditional_t<std::is_same_v<In, std::uint8_t>, int, float>;

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
__device__ __forceinline__ float sampled(const In* plane, const TapPlaces<int>& places,
                                         const Taps& taps, Tap<In> fill) {
  Tap<In> tap[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    tap[i] = fill;
    if (!places.held[i]) continue;
    if constexpr (std::is_same_v<In, std::uint8_t>) {
      tap[i] = plane[places.at[i]];
    } else {
      tap[i] = widened(plane[places.at[i]]);
    }
  }
  if constexpr (std::is_same_v<In, std::uint8_t>) {
    return static_cast<float>(mixed_bytes(tap, taps));
  } else {
    return mixed_floats(tap, taps);
  }
}

// What a block's threads know of an image. (A pointer to a plane would be to anywhere, for what the
// compiler knows of it, and its loads would be generic ones.)
template <int kChannels>
struct Source {
  PositionMap map;
  std::int64_t plane[kChannels];

  __device__ __forceinline__ void set(const AugmentArgs& args, std::int64_t image) {
    if (threadIdx.x == 0) map = position_map(args.warp, image);
    const int c = static_cast<int>(threadIdx.x) - kWarp;  // by another warp
    if (c < 0 || c >= kChannels) return;
    const ImageStrides& strides = args.in_strides;
    plane[c] = image * strides.image + c * strides.channel;
  }
};

template <class In, int kChannels>
__device__ __forceinline__ void sample_pixels(const AugmentArgs& args,
                                              const Source<kChannels>& source, const Tap<In>* fill,
                                              const PixelRun& run, PixelValues<kChannels>& values) {
  RunPositions positions(source.map, run);
#pragma unroll
  for (int k = 0; k < kPixels; ++k) {
    // Where there is no pixel, the last one again.
    if (k > 0 && k < run.count) positions.advance();
    const Taps taps =
        source.map.near ? taps_at(args.warp, positions.x(), positions.y()) : Taps::none();
    const TapPlaces<int> places(taps, args.in_strides);
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const In* const plane = static_cast<const In*>(args.in) + source.plane[c];
      values[c][k] = sampled(plane, places, taps, fill[c]);
    }
  }
}

template <class In, int kChannels>
__global__ void __launch_bounds__(kTileThreads, 3)
    warp_kernel(const __grid_constant__ AugmentArgs args, const __grid_constant__ Tiles tiles,
                Pixels how) {
  __shared__ Source<kChannels> source;
  __shared__ Channels<Tap<In>, kChannels> channels;
  channels.set(args);
  for (std::int64_t tile = blockIdx.x; tile < tiles.all; tile += gridDim.x) {
    const PixelRun first = run_of_thread(args.warp, tiles, tile);
    __syncthreads();  // until the last tile's source is done with
    source.set(args, first.image);
    __syncthreads();
    for_each_run(args.warp, first, [&](const PixelRun& run) {
      PixelValues<kChannels> values;
      sample_pixels<In>(args, source, channels.fill, run, values);
      channels.apply(values);
      store<kChannels>(args, how, run, values);
    });
  }
}

// Where each pixel becomes the one in its place. `runs` divides by the runs of a row, `rows` by the
// rows of an image.
template <class In, int kChannels>
__global__ void __launch_bounds__(kTileThreads)
    normalize_kernel(const __grid_constant__ AugmentArgs args, const __grid_constant__ Divider runs,
                     const __grid_constant__ Divider rows, Layouts how) {
  __shared__ Channels<float, kChannels> channels;
  channels.set(args);
  __syncthreads();
  const std::int64_t all = args.warp.batch * rows.divisor() * runs.divisor();
  const std::int64_t step = std::int64_t{gridDim.x} * kTileThreads;
  for (std::int64_t number = std::int64_t{blockIdx.x} * kTileThreads + threadIdx.x; number < all;
       number += step) {
    const std::int64_t row = runs.quotient(number), image = rows.quotient(row);
    const std::int64_t column = (number - row * runs.divisor()) * kPixels;
    const std::int64_t left = args.warp.out_width - column;
    const PixelRun run = {image, static_cast<int>(row - image * rows.divisor()),
                          static_cast<int>(column),
                          left < kPixels ? static_cast<int>(left) : kPixels};
    const ImageStrides& strides = args.in_strides;
    const auto* const from = static_cast<const In*>(args.in) + image * strides.image +
                             run.row * strides.row + column * strides.column;
    PixelValues<kChannels> values;
    load_pixels<kChannels>(from, strides, how.in, run.count, values);
    channels.apply(values);
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
  const Divider runs((warp.out_width + kPixels - 1) / kPixels), rows(warp.out_height);
  const std::int64_t all = warp.batch * rows.divisor() * runs.divisor();
  launch(on, normalize_kernel<In, kChannels>, (all + kTileThreads - 1) / kTileThreads, kTileThreads,
         args, runs, rows, how);
}

// Whether 32 bits tell where in an image a pixel is, and where one beside it would be.
bool is_short(const Warp& warp, const ImageStrides& strides) {
  const auto reach = [](std::int64_t size, std::int64_t step) {
    return static_cast<double>(size + 1) * std::abs(static_cast<double>(step));
  };
  return reach(warp.in_height, strides.row) + reach(warp.in_width, strides.column) < 0x1p31;
}

}  // namespace
}  // namespace strop::augment::cuda

namespace strop::augment {

void run(const AugmentArgs& args, const Launch& on) {
  if (args.warp.empty()) return;
  if (args.wide() || !cuda::is_short(args.warp, args.in_strides)) {
    return cuda::augment_any_images(args, on);
  }
  cuda::by_channels(args.warp.channels, [&]<int kChannels>() {
    by_narrow_image_dtype(args.in_dtype,
                          [&]<class In>() { cuda::run_as<In, kChannels>(args, on); });
  });
}

}  // namespace strop::augment
