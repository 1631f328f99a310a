#pragma once

#include "augment/kernels.h"
#include "augment/simd/copy.h"
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

// Rows of samples of type In, each channel's somewhere, finished as Out.
template <class In, class Out>
struct RowWriter {
  const AugmentArgs& args;
  WarpScratch& scratch;
  bool stream;
  ScaleAndOffset by[kMaxImageChannels];

  STROP_MEMBER RowWriter(const AugmentArgs& a, WarpScratch& r, bool s)
      : args(a), scratch(r), stream(s) {
    for (int c = 0; c < args.warp.channels; ++c) {
      by[c] = scale_and_offset<In, Out>(args.normalization, c);
    }
  }

  STROP_MEMBER Out* place(const OutPlace& at) const {
    const ImageStrides& s = args.out_strides;
    return static_cast<Out*>(args.out) + at.image * s.image + at.row * s.row + at.column * s.column;
  }

  // One channel, to a plane.
  STROP_MEMBER void write_plane(const OutPlace& at, int channel, const In* row, int count) const {
    finish_row(row, place(at) + channel * args.out_strides.channel, count, by[channel], stream);
  }

  STROP_MEMBER void write(const OutPlace& at, const In* const (&rows)[kMaxImageChannels],
                          int count) const {
    const ImageStrides& s = args.out_strides;
    const auto channels = static_cast<int>(args.warp.channels);
    if (s.column == 1) {
      for (int c = 0; c < channels; ++c) write_plane(at, c, rows[c], count);
      return;
    }
    Out* const to = place(at);
    const Out* finished[kMaxImageChannels];
    for (int c = 0; c < channels; ++c) {
      Out* const own = reinterpret_cast<Out*>(scratch.finished[c]);
      finish_row(rows[c], own, count, by[c], false);
      finished[c] = own;
    }
    if (s.channel == 1 && s.column == 3 && channels == 3)
      return interleave_three(finished, to, count, stream);
    if (s.channel == 1 && s.column == 4 && channels == 4)
      return interleave_four(finished, to, count);
    for (int c = 0; c < channels; ++c) {
      for (int i = 0; i < count; ++i) to[c * s.channel + i * s.column] = finished[c][i];
    }
  }
};

}  // namespace strop::augment::simd::STROP_ISA
