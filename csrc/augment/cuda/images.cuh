#pragma once

// Where a warp reads and how its taps are mixed, for the kernels of augmentation.

#include "augment/mixing.h"
#include "augment/position.h"
#include "core/cuda/divider.cuh"
#include "core/cuda/launch.h"
#include "core/cuda/vector.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;

// Note [Tiles of a warp]
// A block makes two squares of the output at a time, one below the other, so that what it reads
// stays near to each other however the image is turned. A thread makes kPixels neighbours of a row,
// which are one store of 16 bytes in float32. A warp has 16 columns of 8 rows: the taps of a load
// are in a dozen lines of the cache under a rotation by 20 degrees, where 128 columns of one row
// would be in 45.
inline constexpr int kTileSide = 32;
inline constexpr int kTileRows = 2 * kTileSide;
inline constexpr int kPixels = 4;
inline constexpr int kTileThreads = kTileSide * kTileSide / kPixels;

struct Tiles {
  Divider columns;  // by the tiles of a row of them
  Divider images;   // by those of an image
  std::int64_t all;

  explicit Tiles(const Warp& warp)
      : columns((warp.out_width + kTileSide - 1) / kTileSide),
        images(columns.divisor() * ((warp.out_height + kTileRows - 1) / kTileRows)),
        all(warp.batch * images.divisor()) {}
};

// A thread's pixels in a tile's first square; `count` of them are in the image's width.
struct PixelRun {
  std::int64_t image;
  int row;
  int column;
  int count;
};

__device__ __forceinline__ PixelRun run_of_thread(const Warp& warp, const Tiles& tiles,
                                                  std::int64_t tile) {
  const std::int64_t image = tiles.images.quotient(tile);
  const std::int64_t place = tile - image * tiles.images.divisor();
  const std::int64_t tile_row = tiles.columns.quotient(place);
  const std::int64_t tile_column = place - tile_row * tiles.columns.divisor();
  const int lane = lane_id(), number = static_cast<int>(threadIdx.x) / kWarp;
  const int row = static_cast<int>(tile_row) * kTileRows + number / 2 * 8 + lane / 4;
  const int column =
      static_cast<int>(tile_column) * kTileSide + number % 2 * 16 + lane % 4 * kPixels;
  const int left = static_cast<int>(warp.out_width) - column;
  return {image, row, column, left < kPixels ? left : kPixels};
}

// Calls make(run) for a thread's pixels in each square, where there are any.
template <class Make>
__device__ __forceinline__ void for_each_run(const Warp& warp, PixelRun run, Make make) {
#pragma unroll 1
  for (int square = 0; square < kTileRows / kTileSide; ++square) {
    if (run.count > 0 && run.row < warp.out_height) make(run);
    run.row += kTileSide;
  }
}

// Positions along a run, by PositionLine's formula. None is asked for that does not exist: it may
// not fit 64 bits.
class RunPositions {
 public:
  __device__ __forceinline__ RunPositions(const PositionMap& map, const PixelRun& run)
      : map_(map),
        x_(map.x.block(run.column / kPositionBlock, run.row)),
        y_(map.y.block(run.column / kPositionBlock, run.row)) {
    const int first = run.column % kPositionBlock;
    x_step_ = map.x.by_column * first;
    y_step_ = map.y.by_column * first;
  }

  __device__ __forceinline__ std::int64_t x() const { return x_ + rounded_position(x_step_); }
  __device__ __forceinline__ std::int64_t y() const { return y_ + rounded_position(y_step_); }
  __device__ __forceinline__ void advance() {
    x_step_ += map_.x.by_column;
    y_step_ += map_.y.by_column;
  }

 private:
  const PositionMap& map_;
  std::int64_t x_;  // where the run's block of columns begins
  std::int64_t y_;
  std::int64_t x_step_;  // from there to the pixel, before it is rounded
  std::int64_t y_step_;
};

// The two taps of a coordinate. -1: what is read is fill, or has no weight.
struct alignas(16) TapPair {
  int first;
  int second;
  int fraction;  // the second one's share, in multiples of 2^-15
};

// Where fill modes differ: out of line, for remainders of 64 bits are hundreds of instructions.
static __device__ __noinline__ TapPair pair_at_edge(FillMode mode, bool nearest,
                                                    std::int64_t position, int pixels) {
  if (mode == FillMode::kHardConstant && !inside(position, pixels)) return {-1, -1, 0};
  position = position_within(mode, position, pixels);
  const int fraction = nearest ? 0 : static_cast<int>(position & (kOnePixel - 1));
  int first = static_cast<int>((position + (nearest ? kOnePixel / 2 : 0)) >> kPositionBits);
  int second = first + 1;
  if (mode == FillMode::kGridWrap) {
    first = first == pixels ? 0 : first;
    second = second == pixels ? 0 : second;
  }
  const auto held = [pixels](int tap) { return tap >= 0 && tap < pixels; };
  return {held(first) ? first : -1, fraction != 0 && held(second) ? second : -1, fraction};
}

__device__ __forceinline__ TapPair pair_at(FillMode mode, bool nearest, std::int64_t position,
                                           int pixels) {
  // (kFarthestPosition: 2^29 pixels)
  const int first = static_cast<int>(position >> kPositionBits);
  const int fraction = static_cast<int>(position & (kOnePixel - 1));
  if (first < 0 || first >= pixels - 1) return pair_at_edge(mode, nearest, position, pixels);
  if (nearest) return {first + (fraction >> (kPositionBits - 1)), -1, 0};
  return {first, fraction == 0 ? -1 : first + 1, fraction};
}

struct Taps {
  TapPair x;
  TapPair y;

  // Of a pixel that is fill.
  static __device__ __forceinline__ Taps none() { return {{-1, -1, 0}, {-1, -1, 0}}; }
};

__device__ __forceinline__ Taps taps_at(const Warp& warp, std::int64_t x, std::int64_t y) {
  const bool nearest = warp.interpolation == Interpolation::kNearest;
  const Taps taps = {pair_at(warp.fill_mode, nearest, x, static_cast<int>(warp.in_width)),
                     pair_at(warp.fill_mode, nearest, y, static_cast<int>(warp.in_height))};
  // There, one coordinate that is outside makes a pixel fill.
  const bool hard = warp.fill_mode == FillMode::kHardConstant;
  if (hard && (taps.x.first | taps.y.first) < 0) return Taps::none();
  return taps;
}

// Where the taps of a pixel are in a plane: upper left, upper right, lower left, lower right.
template <class Offset>
struct TapPlaces {
  Offset at[4];
  bool held[4];

  __device__ __forceinline__ TapPlaces(const Taps& taps, const ImageStrides& strides) {
    const int column[2] = {taps.x.first, taps.x.second}, row[2] = {taps.y.first, taps.y.second};
    const auto row_step = static_cast<Offset>(strides.row);
    const auto column_step = static_cast<Offset>(strides.column);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      held[i] = (row[i / 2] | column[i % 2]) >= 0;
      at[i] = row[i / 2] * row_step + column[i % 2] * column_step;
    }
  }
};

__device__ __forceinline__ int mixed_bytes(const int (&tap)[4], const Taps& taps) {
  return strop::augment::mixed_bytes(tap, taps.x.fraction, taps.y.fraction);
}

template <class Number>
__device__ __forceinline__ Number mixed_floats(const Number (&tap)[4], const Taps& taps) {
  return strop::augment::mixed_floats(tap, taps.x.fraction, taps.y.fraction);
}

// A sample becomes v * scale + offset; of a byte, which is then rounded, nothing but its unit.
template <class Number>
struct Affine {
  Number scale;
  Number offset;
};

template <class Number>
__device__ __forceinline__ Affine<Number> affine_of(const AugmentArgs& args, int channel) {
  const bool bytes = args.in_dtype == DType::kUInt8;
  if (args.out_dtype == DType::kUInt8) {
    return {static_cast<Number>(bytes ? 1.0 / kMixedOne : 255.0), static_cast<Number>(0)};
  }
  const Normalization& n = args.normalization;
  const double unit = bytes ? 255.0 * kMixedOne : 1.0, std = n.std_of(channel);
  return {static_cast<Number>(1 / (unit * std)), static_cast<Number>(-n.mean_of(channel) / std)};
}

template <class Number>
__device__ __forceinline__ std::uint8_t byte_of(Number levels) {
  if (!(levels > 0)) return 0;
  return static_cast<std::uint8_t>(rint(levels < 255 ? levels : static_cast<Number>(255)));
}

// augment_images for any dtype, float64 among them, and images of any extent; not fast.
void augment_any_images(const AugmentArgs& args, const Launch& on);

}  // namespace strop::augment::cuda
