// Warps of floating images by boxes.

#include "cpu/augment_boxes.h"
#include "cpu/augment_positions.h"
#include "cpu/augment_rows.h"

namespace strop::cpu::STROP_ISA {
namespace {

STROP_INLINE F32 between(F32 first, F32 second, F32 fraction) {
  const F32 mixed = first + fraction * (second - first);
  return select(I32(fraction == 0), first, mixed);
}

STROP_INLINE F32 of_units(I32 units) { return __builtin_convertvector(units, F32) * 0x1p-15f; }

STROP_INLINE F32 sample(const float* plane, std::int64_t stride, const std::int32_t* offset, F32 x,
                        F32 y) {
  const F32 left = between(gathered(plane, offset), gathered(plane + stride, offset), y);
  const F32 right = between(gathered(plane + 1, offset), gathered(plane + stride + 1, offset), y);
  return between(left, right, x);
}

void sample_floats(const WarpRoom& room, const float* plane, std::int64_t stride, Columns columns,
                   float* to) {
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    // (even columns' are the low words; none is negative)
    const I32 x = load_unaligned<I32>(room.fractions_x + c);
    const I32 y = load_unaligned<I32>(room.fractions_y + c);
    const std::int32_t* const offset = room.offsets + c;
    float even[kLanes], odd[kLanes];
    store_unaligned(even,
                    sample(plane, stride, offset, of_units(x & 0xffff), of_units(y & 0xffff)));
    store_unaligned(odd,
                    sample(plane, stride, offset + kLanes, of_units(x >> 16), of_units(y >> 16)));
    for (int i = 0; i < kLanes; ++i) {
      to[c + 2 * i] = even[i];
      to[c + 2 * i + 1] = odd[i];
    }
  }
}

float* floats_of_row(WarpRoom& room, int channel) {
  return reinterpret_cast<float*>(room.rows[channel]);
}

void set_fill(const AugmentArgs& args, WarpRoom& room, Columns seen, int count) {
  for (int c = 0; c < args.warp.channels; ++c) {
    float* const row = floats_of_row(room, c);
    const float fill = args.fill[c];
    set_elements(row, seen.begin, fill);
    if (seen.end < count) set_elements(row + seen.end, count - seen.end, fill);
    if (args.warp.fill_mode != FillMode::kHardConstant) continue;
    for (int i = seen.begin; i < seen.end; ++i) row[i] = room.outside[i] != 0 ? fill : row[i];
  }
}

template <class Out>
void warp_rows(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  const RowWriter<float, Out> writer(args, room, stream);
  const std::int64_t stride = tile.box.columns;
  const Locator at = locator(args.warp, tile, 1, static_cast<int>(stride));
  const auto* const planes = reinterpret_cast<const float*>(room.pixels);
  const float* rows[kMostImageChannels];
  for (int c = 0; c < kMostImageChannels; ++c) rows[c] = floats_of_row(room, c);
  const auto count = static_cast<int>(tile.out.columns());
  for (std::int64_t row = tile.out.row; row < tile.out.row_end; ++row) {
    const Columns seen = at.locate(room, row);
    for (int c = 0; c < args.warp.channels; ++c) {
      sample_floats(room, planes + c * tile.box.pixels(), stride, seen, floats_of_row(room, c));
    }
    set_fill(args, room, seen, count);
    writer.write(tile.image, row, tile.out.column, count, rows);
  }
  stream_fence();
}

}  // namespace

void warp_floats(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  auto* const planes = reinterpret_cast<float*>(room.pixels);
  by_narrow_dtype(args.in_dtype, [&]<class T>() {
    for (int c = 0; c < args.warp.channels; ++c) {
      lay_float_box<T>(args, tile, c, planes + c * tile.box.pixels());
    }
  });
  by_out_dtype(args.out_dtype, [&]<class Out>() { warp_rows<Out>(args, tile, room, stream); });
}

}  // namespace strop::cpu::STROP_ISA
