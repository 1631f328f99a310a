// warp_masks: elements of 1, 2, 4 or 8 bytes, copied as they are.

#include <type_traits>

#include "cpu/augment_positions.h"
#include "cpu/augment_rows.h"

namespace strop::cpu::STROP_ISA {
namespace {

// Where the elements of a row lie, from a channel's first one on; -1: fill.
struct MaskRow {
  const WarpMasksArgs& args;
  const WarpTile& tile;
  BlockSteps x, y;
  bool fits;  // offsets are 32 bits

  STROP_MEMBER void locate_inside(std::int32_t* to, const Starts& x_starts,
                                  const Starts& y_starts) const {
    const I32 from_x = x_starts.vector(-kOnePixel / 2), from_y = y_starts.vector(-kOnePixel / 2);
    const auto column = static_cast<std::int32_t>(args.in_strides.column);
    const auto row = static_cast<std::int32_t>(args.in_strides.row);
    const auto place = [&](I32 step_x, I32 step_y) {
      return ((step_x + from_x) >> 16) * column + ((step_y + from_y) >> 16) * row;
    };
    for (int i = 0; i < kUnitPairs; ++i) {
      store_unaligned(to + i * 2 * kLanes, place(x.step[i].even, y.step[i].even));
      store_unaligned(to + i * 2 * kLanes + kLanes, place(x.step[i].odd, y.step[i].odd));
    }
  }

  // Any position: the place of one element.
  STROP_MEMBER std::int64_t place(std::int64_t row, std::int64_t column) const {
    const auto index = [](const PositionLine& line, std::int64_t i, std::int64_t j,
                          std::int64_t pixels) {
      const std::int64_t p = position_within(FillMode::kConstant, line.at(i, j), pixels);
      const std::int64_t tap = (p + kOnePixel / 2) >> kPositionBits;
      return tap < pixels ? tap : -1;
    };
    const std::int64_t tx = index(tile.map.x, row, column, args.warp.in_width);
    const std::int64_t ty = index(tile.map.y, row, column, args.warp.in_height);
    if (tx < 0 || ty < 0) return -1;
    return ty * args.in_strides.row + tx * args.in_strides.column;
  }
};

template <class T>
struct MaskPlanes {
  const T* from;
  T* to;
  T fill;
};

template <class T>
STROP_INLINE void copy_block(const WarpMasksArgs& args, const std::int32_t* offset, int count,
                             MaskPlanes<T> planes) {
  for (std::int64_t c = 0; c < args.warp.channels; ++c) {
    const T* const from = planes.from + c * args.in_strides.channel;
    T* const to = planes.to + c * args.out_strides.channel;
    if (args.out_strides.column == 1 && count == kUnit) {
      for (int i = 0; i < kUnit; i += 2 * kLanes) {
        for (int k = 0; k < 2 * kLanes; ++k) to[i + k] = from[offset[i + offset_place(k)]];
      }
    } else {
      for (int k = 0; k < count; ++k) {
        const int pair = k / (2 * kLanes) * (2 * kLanes);
        to[k * args.out_strides.column] = from[offset[pair + offset_place(k - pair)]];
      }
    }
  }
}

template <class T>
STROP_INLINE void set_elements_of(const WarpMasksArgs& args, int count, T fill, T* to) {
  for (std::int64_t c = 0; c < args.warp.channels; ++c) {
    T* const own = to + c * args.out_strides.channel;
    for (int k = 0; k < count; ++k) own[k * args.out_strides.column] = fill;
  }
}

template <class T>
STROP_INLINE void copy_singly(const MaskRow& at, std::int64_t row, std::int64_t column, int count,
                              MaskPlanes<T> planes) {
  const WarpMasksArgs& args = at.args;
  for (int k = 0; k < count; ++k) {
    const std::int64_t place = at.place(row, column + k);
    for (std::int64_t c = 0; c < args.warp.channels; ++c) {
      planes.to[c * args.out_strides.channel + k * args.out_strides.column] =
          place < 0 ? planes.fill : planes.from[c * args.in_strides.channel + place];
    }
  }
}

template <class T>
void warp_rows(const WarpMasksArgs& args, const WarpTile& tile, const MaskRow& at) {
  const OutTile& out = tile.out;
  T fill;
  std::memcpy(&fill, &args.fill, sizeof fill);
  const T* const from = static_cast<const T*>(args.in) + tile.image * args.in_strides.image;
  for (std::int64_t row = out.row; row < out.row_end; ++row) {
    T* const to = static_cast<T*>(args.out) + tile.image * args.out_strides.image +
                  row * args.out_strides.row;
    for (std::int64_t column = out.column; column < out.column_end; column += kUnit) {
      const std::int64_t left = out.column_end - column;
      const int count = left < kUnit ? static_cast<int>(left) : kUnit;
      const MaskPlanes<T> planes = {from, to + column * args.out_strides.column, fill};
      if (tile.way == TileWay::kFill) {
        set_elements_of(args, count, fill, planes.to);
        continue;
      }
      const Starts x = unit_starts(tile.map.x, column, row);
      const Starts y = unit_starts(tile.map.y, column, row);
      if (at.x.misses(x, kOnePixel - 1) || at.y.misses(y, kOnePixel - 1)) {
        set_elements_of(args, count, fill, planes.to);
      } else if (at.fits && at.x.inside(x) && at.y.inside(y)) {
        alignas(64) std::int32_t offset[kUnit];
        at.locate_inside(offset, x, y);
        copy_block(args, offset, count, planes);
      } else {
        copy_singly(at, row, column, count, planes);
      }
    }
  }
}

std::int64_t magnitude_of(std::int64_t v) { return v < 0 ? -v : v; }

}  // namespace

void warp_masks(const WarpMasksArgs& args, const WarpTile& tile, WarpRoom&) {
  const Warp& warp = args.warp;
  MaskRow at = {args, tile, block_steps(tile.map.x, warp.in_width, 0),
                block_steps(tile.map.y, warp.in_height, 0), false};
  const std::int64_t reach = magnitude_of(args.in_strides.row) * warp.in_height +
                             magnitude_of(args.in_strides.column) * warp.in_width;
  at.fits = at.x.fits && at.y.fits && reach < std::int64_t{1} << 31;
  switch (args.item) {
    case 1:
      return warp_rows<std::uint8_t>(args, tile, at);
    case 2:
      return warp_rows<std::uint16_t>(args, tile, at);
    case 4:
      return warp_rows<std::uint32_t>(args, tile, at);
    default:
      return warp_rows<std::uint64_t>(args, tile, at);
  }
}

}  // namespace strop::cpu::STROP_ISA
