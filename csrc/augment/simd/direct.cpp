// Warps whose tiles see so much of the input that no box is laid out: tap by tap.

#include "augment/mixing.h"
#include "augment/simd/rows.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

// What a pixel reads: taps from a plane's first pixel on, of those that are not fill.
struct DirectTaps {
  std::int64_t at[4];
  bool held[4];
  int fraction_x, fraction_y;
};

STROP_INLINE DirectTaps taps_at(const AugmentArgs& args, const WarpTile& tile, std::int64_t row,
                                std::int64_t column) {
  const Warp& warp = args.warp;
  const FillMode mode = warp.fill_mode;
  std::int64_t x = tile.map.x.at(row, column), y = tile.map.y.at(row, column);
  if (mode == FillMode::kHardConstant && !(inside(x, warp.in_width) && inside(y, warp.in_height))) {
    return {};
  }
  x = position_within(mode, x, warp.in_width);
  y = position_within(mode, y, warp.in_height);
  DirectTaps taps = {};
  if (warp.interpolation == Interpolation::kNearest) {
    x += kOnePixel / 2;
    y += kOnePixel / 2;
  } else {
    taps.fraction_x = static_cast<int>(x & (kOnePixel - 1));
    taps.fraction_y = static_cast<int>(y & (kOnePixel - 1));
  }
  for (int i = 0; i < 4; ++i) {
    const std::int64_t tx = tap_of(mode, (x >> kPositionBits) + i % 2, warp.in_width);
    const std::int64_t ty = tap_of(mode, (y >> kPositionBits) + i / 2, warp.in_height);
    taps.held[i] = tx >= 0 && tx < warp.in_width && ty >= 0 && ty < warp.in_height;
    taps.at[i] = ty * args.in_strides.row + tx * args.in_strides.column;
  }
  return taps;
}

STROP_INLINE Mixed mixed(const int (&tap)[4], const DirectTaps& by) {
  return {static_cast<std::int16_t>(mixed_bytes(tap, by.fraction_x, by.fraction_y))};
}
STROP_INLINE float mixed(const float (&tap)[4], const DirectTaps& by) {
  return mixed_floats(tap, by.fraction_x, by.fraction_y);
}

STROP_INLINE int tap_value(const std::uint8_t* at) { return *at; }
template <class T>
STROP_INLINE float tap_value(const T* at) {
  return to_float(*at);
}

template <class In, class Out>
void warp_rows(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  constexpr bool kBytes = std::is_same_v<In, std::uint8_t>;
  using Sample = std::conditional_t<kBytes, Mixed, float>;
  using Value = std::conditional_t<kBytes, int, float>;
  const RowWriter<Sample, Out> writer(args, scratch, stream);
  const auto count = static_cast<int>(tile.out.columns());
  for (std::int64_t row = tile.out.row; row < tile.out.row_end; ++row) {
    const Sample* rows[kMaxImageChannels];
    for (int c = 0; c < kMaxImageChannels; ++c) {
      rows[c] = reinterpret_cast<const Sample*>(scratch.rows[c]);
    }
    for (int i = 0; i < count; ++i) {
      const DirectTaps taps = taps_at(args, tile, row, tile.out.column + i);
      for (int c = 0; c < args.warp.channels; ++c) {
        const In* const plane = static_cast<const In*>(args.in) +
                                tile.image * args.in_strides.image + c * args.in_strides.channel;
        Value tap[4];
        for (int t = 0; t < 4; ++t) {
          tap[t] = taps.held[t] ? tap_value(plane + taps.at[t]) : static_cast<Value>(args.fill[c]);
        }
        reinterpret_cast<Sample*>(scratch.rows[c])[i] = mixed(tap, taps);
      }
    }
    writer.write({tile.image, row, tile.out.column}, rows, count);
  }
  stream_fence();
}

}  // namespace

void warp_directly(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch,
                   bool stream) {
  by_narrow_image_dtype(args.in_dtype, [&]<class In>() {
    by_narrow_image_dtype(args.out_dtype,
                          [&]<class Out>() { warp_rows<In, Out>(args, tile, scratch, stream); });
  });
}

}  // namespace strop::augment::simd::STROP_ISA
