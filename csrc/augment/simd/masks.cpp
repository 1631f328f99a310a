// warp_masks: elements of 1, 2, 4 or 8 bytes, copied as they are. A tile is made channel by
// channel: its box of the input, in which fill lies around the image, then row by row.

#include <type_traits>

#include "augment/simd/boxes.h"
#include "augment/simd/positions.h"
#include "augment/simd/rows.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T>
struct MaskPlane {
  const WarpMasksArgs& args;
  const WarpTile& tile;
  const T* from;
  T* to;  // the tile's first element
  T fill;

  STROP_MEMBER const T* at(std::int64_t row, std::int64_t column) const {
    return from + row * args.in_strides.row + column * args.in_strides.column;
  }
  STROP_MEMBER T* row(std::int64_t i) const { return to + i * args.out_strides.row; }
};

template <class T>
STROP_INLINE void set_row(const MaskPlane<T>& plane, T* to, int begin, int end) {
  const std::int64_t step = plane.args.out_strides.column;
  for (int k = begin; k < end; ++k) to[k * step] = plane.fill;
}

template <class T>
STROP_INLINE void lay_box(const MaskPlane<T>& plane, T* to) {
  const Warp& warp = plane.args.warp;
  const InBox& box = plane.tile.box;
  const Part rows = part_within(box.row, box.rows, warp.in_height);
  const Part columns = part_within(box.column, box.columns, warp.in_width);
  const auto inner = static_cast<int>(columns.end - columns.begin);
  for (std::int64_t r = 0; r < box.rows; ++r, to += box.columns) {
    if (r < rows.begin || r >= rows.end) {
      set_elements(to, static_cast<int>(box.columns), plane.fill);
      continue;
    }
    set_elements(to, static_cast<int>(columns.begin), plane.fill);
    if (plane.args.in_strides.column == 1) prefetch_after(plane.at(box.row + r, 0), inner);
    copy_elements(plane.at(box.row + r, box.column + columns.begin), plane.args.in_strides.column,
                  inner, to + columns.begin);
    set_elements(to + columns.end, static_cast<int>(box.columns - columns.end), plane.fill);
  }
}

template <class T>
STROP_INLINE void copy_from_box(const WarpScratch& scratch, const T* box, Columns columns, T* to) {
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    const std::int32_t* const offset = scratch.offsets + c;
    for (int k = 0; k < kLanes; ++k) {
      to[c + 2 * k] = box[offset[k]];
      to[c + 2 * k + 1] = box[offset[kLanes + k]];
    }
  }
}

template <class T>
void warp_by_box(const MaskPlane<T>& plane, WarpScratch& scratch) {
  T* const box = reinterpret_cast<T*>(scratch.pixels);
  lay_box(plane, box);
  const WarpTile& tile = plane.tile;
  const Locator at = locator(plane.args.warp, tile, 1, static_cast<int>(tile.box.columns), scratch);
  const auto width = static_cast<int>(tile.out.columns());
  const std::int64_t step = plane.args.out_strides.column;
  T* const own = reinterpret_cast<T*>(scratch.rows);
  static_assert(sizeof scratch.rows >= kRowColumns * sizeof(T));
  for (std::int64_t i = 0; i < tile.out.rows(); ++i) {
    const Columns seen = at.locate(scratch, tile.out.row + i);
    T* const to = plane.row(i);
    const int whole = seen.end < width ? seen.end : width;
    if (step == 1 && whole == seen.end) {
      copy_from_box(scratch, box, seen, to);
    } else {
      copy_from_box(scratch, box, seen, own);
      for (int k = seen.begin; k < whole; ++k) to[k * step] = own[k];
    }
    set_row(plane, to, 0, seen.begin);
    set_row(plane, to, whole, width);
  }
}

template <class T>
void copy_rows(const MaskPlane<T>& plane, WarpScratch& scratch) {
  const WarpTile& tile = plane.tile;
  const Warp& warp = plane.args.warp;
  const CopyLine x = copy_line(tile.map.x.by_column, tile.map.x.start);
  const CopyLine y = copy_line(tile.map.y.by_row, tile.map.y.start);
  const Columns inner = columns_inside(x, tile.out, warp.in_width);
  const auto width = static_cast<int>(tile.out.columns());
  const std::int64_t step = plane.args.out_strides.column;
  T* const own = reinterpret_cast<T*>(scratch.rows);
  for (std::int64_t i = 0; i < tile.out.rows(); ++i) {
    T* const to = plane.row(i);
    const std::int64_t row = y.at(tile.out.row + i);
    const Columns seen = row >= 0 && row < warp.in_height ? inner : Columns{0, 0};
    const int count = seen.end - seen.begin;
    set_row(plane, to, 0, seen.begin);
    set_row(plane, to, seen.end, width);
    if (count == 0) continue;
    T* const target = step == 1 ? to + seen.begin : own;
    copy_elements(plane.at(row, x.at(tile.out.column + seen.begin)),
                  x.step * plane.args.in_strides.column, count, target);
    for (int k = 0; step != 1 && k < count; ++k) to[(seen.begin + k) * step] = own[k];
  }
}

template <class T>
void copy_singly(const MaskPlane<T>& plane) {
  const WarpTile& tile = plane.tile;
  const Warp& warp = plane.args.warp;
  const auto index = [&warp](const PositionLine& line, std::int64_t i, std::int64_t j,
                             std::int64_t pixels) {
    const std::int64_t p = position_within(warp.fill_mode, line.at(i, j), pixels);
    const std::int64_t tap = (p + kOnePixel / 2) >> kPositionBits;
    return tap < pixels ? tap : -1;
  };
  for (std::int64_t i = 0; i < tile.out.rows(); ++i) {
    for (std::int64_t k = 0; k < tile.out.columns(); ++k) {
      const std::int64_t row = tile.out.row + i, column = tile.out.column + k;
      const std::int64_t tx = index(tile.map.x, row, column, warp.in_width);
      const std::int64_t ty = index(tile.map.y, row, column, warp.in_height);
      plane.row(i)[k * plane.args.out_strides.column] =
          tx < 0 || ty < 0 ? plane.fill : *plane.at(ty, tx);
    }
  }
}

template <class T>
void warp_planes(const WarpMasksArgs& args, const WarpTile& tile, WarpScratch& scratch) {
  const ImageStrides &in = args.in_strides, &out = args.out_strides;
  T fill;
  std::memcpy(&fill, &args.fill, sizeof fill);
  for (std::int64_t c = 0; c < args.warp.channels; ++c) {
    const MaskPlane<T> plane = {
        args, tile, static_cast<const T*>(args.in) + tile.image * in.image + c * in.channel,
        static_cast<T*>(args.out) + tile.image * out.image + c * out.channel +
            tile.out.row * out.row + tile.out.column * out.column,
        fill};
    switch (tile.method) {
      case TileMethod::kFill:
        for (std::int64_t i = 0; i < tile.out.rows(); ++i) {
          set_row(plane, plane.row(i), 0, static_cast<int>(tile.out.columns()));
        }
        break;
      case TileMethod::kCopy:
        copy_rows(plane, scratch);
        break;
      case TileMethod::kBox:
        warp_by_box(plane, scratch);
        break;
      default:
        copy_singly(plane);
    }
  }
}

}  // namespace

void warp_masks(const WarpMasksArgs& args, const WarpTile& tile, WarpScratch& scratch) {
  switch (args.item) {
    case 1:
      return warp_planes<std::uint8_t>(args, tile, scratch);
    case 2:
      return warp_planes<std::uint16_t>(args, tile, scratch);
    case 4:
      return warp_planes<std::uint32_t>(args, tile, scratch);
    default:
      return warp_planes<std::uint64_t>(args, tile, scratch);
  }
}

}  // namespace strop::augment::simd::STROP_ISA
