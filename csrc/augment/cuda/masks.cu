// warp_masks on a GPU.

#include "augment/cuda/pixels.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;
namespace {

// Bits of `Item` are moved, whatever they mean. `vectors`: those of a run lie in one.
template <class Item>
__device__ __forceinline__ void make_run(const WarpMasksArgs& args, const PositionMap& map,
                                         const PixelRun& run, bool vectors) {
  RunPositions positions(map, run);
  std::int64_t places[kPixels];
  bool held[kPixels];
#pragma unroll
  for (int k = 0; k < kPixels; ++k) {
    if (k > 0 && k < run.count) positions.advance();  // or the last one again
    const Taps taps = map.near ? taps_at(args.warp, positions.x(), positions.y()) : Taps::none();
    held[k] = (taps.x.first | taps.y.first) >= 0;
    places[k] = taps.y.first * args.in_strides.row + taps.x.first * args.in_strides.column;
  }
  const auto* from = static_cast<const Item*>(args.in) + run.image * args.in_strides.image;
  auto* to = static_cast<Item*>(args.out) + run.image * args.out_strides.image +
             run.row * args.out_strides.row + run.column * args.out_strides.column;
  for (std::int64_t c = 0; c < args.warp.channels; ++c) {
    Vector<Item, kPixels> four = {};
#pragma unroll
    for (int k = 0; k < kPixels; ++k) {
      four.fill(k, held[k] ? from[places[k]] : static_cast<Item>(args.fill));
    }
    if (vectors && run.count == kPixels) {
      *reinterpret_cast<Vector<Item, kPixels>*>(to) = four;
    } else {
#pragma unroll
      for (int k = 0; k < kPixels; ++k) {
        if (k < run.count) to[k * args.out_strides.column] = four.lane(k);
      }
    }
    from += args.in_strides.channel;
    to += args.out_strides.channel;
  }
}

template <class Item>
__global__ void __launch_bounds__(kTileThreads)
    masks_kernel(const __grid_constant__ WarpMasksArgs args, const __grid_constant__ Tiles tiles,
                 bool vectors) {
  __shared__ PositionMap map;
  for (std::int64_t tile = blockIdx.x; tile < tiles.all; tile += gridDim.x) {
    const PixelRun first = run_of_thread(args.warp, tiles, tile);
    __syncthreads();  // until the last tile's map is done with
    if (threadIdx.x == 0) map = position_map(args.warp, first.image);
    __syncthreads();
    for_each_run(args.warp, first,
                 [&](const PixelRun& run) { make_run<Item>(args, map, run, vectors); });
  }
}

template <class Item>
void run_as(const WarpMasksArgs& args, const Launch& on) {
  const Pixels how = layout_of(args.out, args.item, args.out_strides, args.warp.channels);
  const Tiles tiles(args.warp);
  launch(on, masks_kernel<Item>, tiles.all, kTileThreads, args, tiles, how == Pixels::kPlanes);
}

}  // namespace
}  // namespace strop::augment::cuda

namespace strop::augment {

void run(const WarpMasksArgs& args, const Launch& on) {
  if (args.warp.empty()) return;
  switch (args.item) {
    case 1:
      return cuda::run_as<std::uint8_t>(args, on);
    case 2:
      return cuda::run_as<std::uint16_t>(args, on);
    case 4:
      return cuda::run_as<std::uint32_t>(args, on);
    default:
      return cuda::run_as<std::uint64_t>(args, on);
  }
}

}  // namespace strop::augment
