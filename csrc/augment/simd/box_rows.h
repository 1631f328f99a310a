#pragma once

#include "augment/simd/positions.h"
#include "augment/simd/rows.h"

// The rows of a tile whose box is laid out, from positions to the result: bytes and floats alike.

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

template <class Sample>
STROP_INLINE Sample* samples_of_row(WarpScratch& scratch, int channel) {
  return reinterpret_cast<Sample*>(scratch.rows[channel]);
}

STROP_INLINE void set_sample(Mixed& to, double fill) {
  to.units = static_cast<std::int16_t>(fill * kMixedOne);
}
STROP_INLINE void set_sample(float& to, double fill) { to = static_cast<float>(fill); }

// Fill where a row does not see the image.
template <class Sample>
STROP_INLINE void set_fill(const AugmentArgs& args, WarpScratch& scratch, Columns visible,
                           int count) {
  for (int c = 0; c < args.warp.channels; ++c) {
    Sample* const row = samples_of_row<Sample>(scratch, c);
    Sample fill;
    set_sample(fill, args.fill[c]);
    set_elements(row, visible.begin, fill);
    if (visible.end < count) set_elements(row + visible.end, count - visible.end, fill);
    if (args.warp.fill_mode != FillMode::kHardConstant) continue;
    for (int i = visible.begin; i < visible.end; ++i)
      row[i] = scratch.outside[i] != 0 ? fill : row[i];
  }
}

// Calls sample(stride, columns), which leaves each channel's samples in the scratch, for every row.
// A pixel of the box is `unit` of what offsets count.
template <class Sample, class Out, class Sampler>
STROP_INLINE void warp_box_rows(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch,
                                bool stream, int unit, Sampler sample) {
  const RowWriter<Sample, Out> writer(args, scratch, stream);
  const std::int64_t stride = unit * tile.box.columns;
  const Locator at = locator(args.warp, tile, unit, static_cast<int>(stride), scratch);
  const Sample* rows[kMaxImageChannels];
  for (int c = 0; c < kMaxImageChannels; ++c) rows[c] = samples_of_row<Sample>(scratch, c);
  const auto count = static_cast<int>(tile.out.columns());
  for (std::int64_t row = tile.out.row; row < tile.out.row_end; ++row) {
    const Columns visible = at.locate(scratch, row);
    sample(stride, visible);
    set_fill<Sample>(args, scratch, visible, count);
    writer.write({tile.image, row, tile.out.column}, rows, count);
  }
  stream_fence();
}

}  // namespace strop::augment::simd::STROP_ISA
