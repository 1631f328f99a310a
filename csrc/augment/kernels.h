#pragma once

#include "augment/images.h"
#include "augment/position.h"

namespace strop::augment {

// Note [Warping on a CPU]
// The output is cut into tiles, and the box of the input that a tile reads is first laid out in a
// thread's scratch, with what fill mode puts around the image: taps are then read without asking
// where they are. Bytes lie as four channels a pixel, so that one load of 8 bytes has both taps of
// a row; of one channel, a pixel has the four bytes of its taps. Floating images lie as four floats
// a pixel. A row of a tile passes three loops, each over buffers that the first cache holds:
//
//   locate    positions of the row: where taps begin in the box, and the fractions
//   sample    taps, mixed: a row of each channel, in 16 bits (floating images: float32)
//   finish    normalised, cast, stored
//
// What comes between (colour, erasing, mixing of images) is done to the rows that sample leaves.
// The loops are apart because a processor has either its ports for loads or those for arithmetic
// waiting where they are one.
//
// Tiles that need no mixing (flips, shifts by whole pixels, no warp at all) are copied: see
// augment/simd/copy.cpp. Where a box would be far larger than its tile, taps are looked up one by
// one.

inline constexpr std::int64_t kScratchPixels = std::int64_t{512} << 10;  // bytes of a box
inline constexpr int kMaxTileColumns = 1024;
inline constexpr int kMaxUnit = 32;    // columns that are located at once, at most
inline constexpr int kTileSlack = 64;  // columns that vectors may fill beyond a tile
// Rows of a box are counted by 16 bits, and so are the bytes of four channels in one of its rows.
inline constexpr int kMaxBoxRows = 32766;
inline constexpr int kMaxBoxColumns = 8190;
inline constexpr std::int64_t kMaxBoxShare = 64;  // times a tile's pixels
inline constexpr int kRowColumns = kMaxTileColumns + kTileSlack;

// A thread's scratch: what the loops hand to each other.
struct WarpScratch {
  alignas(64) std::uint8_t pixels[kScratchPixels + 256];
  alignas(64) std::int32_t offsets[kRowColumns];
  alignas(64) std::int16_t fractions_x[kRowColumns];
  alignas(64) std::int16_t fractions_y[kRowColumns];
  alignas(64) std::int16_t outside[kRowColumns];  // -1 where kHardConstant sees fill
  // Of each channel: int16, float32, or elements of an image.
  alignas(64) std::uint8_t rows[kMaxImageChannels][kRowColumns * 4];
  alignas(64) std::uint8_t finished[kMaxImageChannels][kRowColumns * 4];
};

// Rows [row, row_end) and columns [column, column_end) of an output.
struct OutTile {
  std::int64_t row;
  std::int64_t row_end;
  std::int64_t column;  // a multiple of kMaxUnit
  std::int64_t column_end;

  constexpr std::int64_t rows() const { return row_end - row; }
  constexpr std::int64_t columns() const { return column_end - column; }
};

// Columns of a tile, from its first one on.
struct Columns {
  int begin;
  int end;
};

// What is read of an input: columns from `column` on, -1 and beyond the last one among them.
struct InBox {
  std::int64_t row = 0;
  std::int64_t column = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  constexpr std::int64_t pixels() const { return rows * columns; }
  // Whether a scratch holds it.
  constexpr bool fits(std::int64_t pixel_bytes) const {
    return rows <= kMaxBoxRows && columns <= kMaxBoxColumns &&
           pixels() * pixel_bytes <= kScratchPixels;
  }
};

// How a tile is made.
enum class TileMethod : std::uint8_t {
  kFill,    // nothing of the image is seen
  kCopy,    // no two pixels are mixed
  kBox,     // by a box of the input
  kDirect,  // tap by tap
};

struct WarpTile {
  TileMethod method;
  std::int64_t image;
  PositionMap map;
  OutTile out;
  InBox box;
};

// Of a box: four bytes, or four floats; one of a floating image of one channel.
constexpr std::int64_t bytes_of_pixel(DType dtype, std::int64_t channels) {
  return dtype == DType::kUInt8 || channels == 1 ? 4 : 16;
}

// Whether every position is a whole pixel and neighbours stay neighbours, in rows and in columns.
bool is_copy(const PositionMap& map);

// The tiles' size for an image, all of them but the last ones, and how they are made at best.
struct Tiling {
  std::int64_t rows;
  std::int64_t columns;
  TileMethod method;
};
Tiling tiling_of(const Warp& warp, const PositionMap& map, std::int64_t pixel_bytes);
// What a tile reads.
InBox box_of(const Warp& warp, const PositionMap& map, const OutTile& out);
// Whether a tile is all fill.
bool is_outside(const Warp& warp, const PositionMap& map, const OutTile& out);

inline constexpr std::int64_t kScratchSums = kScratchPixels / 4;  // floats, of a gradient's band

// Rows [row, row_end) of one plane of the input.
struct GradientBand {
  std::int64_t image;
  std::int64_t channel;
  std::int64_t row;
  std::int64_t row_end;
};

// The kernels, once per instruction set.
struct Kernels {
  // Make one tile; `stream`: the result is too large for the caches.
  void (*warp)(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream);
  void (*warp_masks)(const WarpMasksArgs& args, const WarpTile& tile, WarpScratch& scratch);
  void (*gradient)(const AugmentGradientArgs& args, const GradientBand& band, WarpScratch& scratch);
};

const Kernels& kernels(Isa isa);
bool has_kernels(Isa isa);

}  // namespace strop::augment
