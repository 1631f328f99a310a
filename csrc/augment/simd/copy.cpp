// Tiles whose pixels are copied: flips, shifts by whole pixels, no warp at all; and those that are
// fill.

#include "augment/simd/copy.h"

#include "augment/simd/rows.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T>
struct CopySource {
  const AugmentArgs& args;
  const WarpTile& tile;
  WarpScratch& scratch;
  CopyLine x;
  Columns inner;
  T fill[kMaxImageChannels];

  STROP_MEMBER const T* place(std::int64_t channel, std::int64_t row, std::int64_t column) const {
    const ImageStrides& s = args.in_strides;
    return static_cast<const T*>(args.in) + tile.image * s.image + channel * s.channel +
           row * s.row + column * s.column;
  }

  // Of one channel: where its elements lie as they are, or the scratch, to which they are copied.
  STROP_MEMBER const T* row_of(int channel, std::int64_t row) const {
    const auto width = static_cast<int>(tile.out.columns());
    const std::int64_t step = x.step * args.in_strides.column;
    T* const own = reinterpret_cast<T*>(scratch.rows[channel]);
    if (row < 0) {
      set_elements(own, width, fill[channel]);
      return own;
    }
    const auto wanted = [&](int i) { return x.at(tile.out.column + i); };
    const bool whole = inner.begin == 0 && inner.end == width;
    if (args.in_strides.column == 1) prefetch_after(place(channel, row, 0), width);
    if (whole && step == 1) return place(channel, row, wanted(0));
    if (inner.end > inner.begin) {
      copy_elements(place(channel, row, wanted(inner.begin)), step, inner.end - inner.begin,
                    own + inner.begin);
    }
    for (int i = 0; i < width; ++i) {
      if (i == inner.begin) i = inner.end;
      if (i >= width) break;
      const std::int64_t column = index_within(args.warp.fill_mode, wanted(i), args.warp.in_width);
      own[i] = column < 0 ? fill[channel] : *place(channel, row, column);
    }
    return own;
  }
};

template <class T>
STROP_INLINE T element_of(double value) {
  if constexpr (std::is_same_v<T, std::uint8_t>) {
    return static_cast<T>(value);
  } else {
    return FromFloat<T>::call(static_cast<float>(value));
  }
}

template <class In, class Out>
void copy_rows(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  const Warp& warp = args.warp;
  const RowWriter<In, Out> writer(args, scratch, stream);
  const CopyLine y = copy_line(tile.map.y.by_row, tile.map.y.start);
  CopySource<In> source = {args,   tile, scratch, copy_line(tile.map.x.by_column, tile.map.x.start),
                           {0, 0}, {}};
  source.inner = columns_inside(source.x, tile.out, warp.in_width);
  for (int c = 0; c < kMaxImageChannels; ++c) source.fill[c] = element_of<In>(args.fill[c]);
  const auto count = static_cast<int>(tile.out.columns());
  const auto from = [&](std::int64_t row) {
    const bool fill = tile.method == TileMethod::kFill;
    return fill ? -1 : index_within(warp.fill_mode, y.at(row), warp.in_height);
  };
  if (args.in_strides.column == 1 && args.out_strides.column == 1) {
    // Plane by plane: memory likes long stretches.
    for (int c = 0; c < warp.channels; ++c) {
      for (std::int64_t row = tile.out.row; row < tile.out.row_end; ++row) {
        const In* const own = source.row_of(c, from(row));
        writer.write_plane({tile.image, row, tile.out.column}, c, own, count);
      }
    }
  } else {
    for (std::int64_t row = tile.out.row; row < tile.out.row_end; ++row) {
      const std::int64_t own = from(row);
      const In* rows[kMaxImageChannels];
      for (int c = 0; c < warp.channels; ++c) rows[c] = source.row_of(c, own);
      writer.write({tile.image, row, tile.out.column}, rows, count);
    }
  }
  stream_fence();
}

}  // namespace

void copy_pixels(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  by_narrow_image_dtype(args.in_dtype, [&]<class In>() {
    by_narrow_image_dtype(args.out_dtype,
                          [&]<class Out>() { copy_rows<In, Out>(args, tile, scratch, stream); });
  });
}

}  // namespace strop::augment::simd::STROP_ISA
