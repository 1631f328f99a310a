#pragma once

#include "augment/kernels.h"
#include "augment/simd/finish.h"
#include "augment/simd/interleave.h"

// Rows of samples on their way to the result: whatever its dtype and strides are.

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// A tile, by the other sources of this instruction set.
void warp_bytes(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream);
void warp_floats(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream);
void warp_directly(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch,
                   bool stream);
void copy_pixels(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream);
void warp_masks(const WarpMasksArgs& args, const WarpTile& tile, WarpScratch& scratch);
void gradient(const AugmentGradientArgs& args, const GradientBand& band, WarpScratch& scratch);

// Where a row begins.
struct OutPlace {
  std::int64_t image;
  std::int64_t row;
  std::int64_t column;
};

using ChannelRows = const void* [kMaxImageChannels];

// To consecutive elements.
using FinishRow = void (*)(const void* from, void* to, int count, ScaleAndOffset by, bool stream);
// Consecutive elements of each channel, to where strides say.
using SpreadRows = void (*)(const AugmentArgs& args, const ChannelRows& rows, void* to, int count,
                            bool stream);

// Elements are moved as they are: T is an unsigned integer of their size.
template <class T>
STROP_INLINE void spread_rows(const AugmentArgs& args, const ChannelRows& finished, void* at,
                              int count, bool stream) {
  const ImageStrides& s = args.out_strides;
  const auto channels = static_cast<int>(args.warp.channels);
  const T* rows[kMaxImageChannels];
  for (int c = 0; c < kMaxImageChannels; ++c) {
    rows[c] = static_cast<const T*>(finished[c]);
  }
  T* const to = static_cast<T*>(at);
  if (s.channel == 1 && s.column == 3 && channels == 3)
    return interleave_three(rows, to, count, stream);
  if (s.channel == 1 && s.column == 4 && channels == 4) return interleave_four(rows, to, count);
  for (int c = 0; c < channels; ++c) {
    for (int i = 0; i < count; ++i) to[c * s.channel + i * s.column] = rows[c][i];
  }
}

// Rows of samples, each channel's somewhere, finished as elements of the result. There are too many
// pairs of their types for every kernel to be compiled with each: a row is a call.
struct RowWriter {
  const AugmentArgs& args;
  WarpScratch& scratch;
  bool stream;
  ScaleAndOffset by[kMaxImageChannels];
  std::int64_t item;  // bytes
  FinishRow finish;   // nullptr: bytes that stay as they are
  SpreadRows spread;

  STROP_MEMBER char* place(const OutPlace& at) const {
    const ImageStrides& s = args.out_strides;
    const std::int64_t element = at.image * s.image + at.row * s.row + at.column * s.column;
    return static_cast<char*>(args.out) + element * item;
  }

  // One channel, to a plane.
  STROP_MEMBER void write_plane(const OutPlace& at, int channel, const void* row, int count) const {
    char* const to = place(at) + channel * args.out_strides.channel * item;
    if (finish == nullptr) {
      std::memcpy(to, row, static_cast<std::size_t>(count));
    } else {
      finish(row, to, count, by[channel], stream);
    }
  }

  STROP_MEMBER void write(const OutPlace& at, const ChannelRows& rows, int count) const {
    const auto channels = static_cast<int>(args.warp.channels);
    if (args.out_strides.column == 1) {
      for (int c = 0; c < channels; ++c) write_plane(at, c, rows[c], count);
      return;
    }
    if (finish == nullptr) return spread_rows<std::uint8_t>(args, rows, place(at), count, stream);
    ChannelRows finished = {};
    for (int c = 0; c < channels; ++c) {
      finish(rows[c], scratch.finished[c], count, by[c], false);
      finished[c] = scratch.finished[c];
    }
    spread(args, finished, place(at), count, stream);
  }
};

// Of samples of type In: Mixed, or elements of an image.
template <class In>
RowWriter row_writer(const AugmentArgs& args, WarpScratch& scratch, bool stream);

}  // namespace strop::augment::simd::STROP_ISA
