// Warps of floating images by boxes.

#include "augment/simd/box_rows.h"
#include "augment/simd/boxes.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class V>
STROP_INLINE V between(V first, V second, V fraction) {
  const V mixed = first + fraction * (second - first);
  return fraction == 0 ? first : mixed;
}

STROP_INLINE F32 of_units(I32 units) { return __builtin_convertvector(units, F32) * 0x1p-15f; }

STROP_INLINE F32 sample(const float* plane, std::int64_t stride, const std::int32_t* offset, F32 x,
                        F32 y) {
  const F32 left = between(gathered(plane, offset), gathered(plane + stride, offset), y);
  const F32 right = between(gathered(plane + 1, offset), gathered(plane + stride + 1, offset), y);
  return between(left, right, x);
}

// One channel.
void sample_floats(WarpRoom& room, std::int64_t stride, Columns columns, Number<1>) {
  const auto* const plane = reinterpret_cast<const float*>(room.pixels);
  float* const to = samples_of_row<float>(room, 0);
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    // (even columns' are the low words; none is negative)
    const I32 x = load_unaligned<I32>(room.fractions_x + c);
    const I32 y = load_unaligned<I32>(room.fractions_y + c);
    const std::int32_t* const offset = room.offsets + c;
    const I32 low = broadcast(std::int32_t{0xffff});
    float even[kLanes], odd[kLanes];
    store_unaligned(even, sample(plane, stride, offset, of_units(x & low), of_units(y & low)));
    store_unaligned(odd,
                    sample(plane, stride, offset + kLanes, of_units(x >> 16), of_units(y >> 16)));
    for (int i = 0; i < kLanes; ++i) {
      to[c + 2 * i] = even[i];
      to[c + 2 * i + 1] = odd[i];
    }
  }
}

// Three or four: a pixel's channels are a vector of four, and four pixels are turned over.
template <int kChannels>
void sample_floats(WarpRoom& room, std::int64_t stride, Columns columns, Number<kChannels>) {
  const auto* const pixels = reinterpret_cast<const float*>(room.pixels);
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    float x[2 * kLanes], y[2 * kLanes];
    for (int i = 0; i < 2 * kLanes; i += kLanes) {
      store_unaligned(x + i, of_units(from_words(room.fractions_x + c + i)));
      store_unaligned(y + i, of_units(from_words(room.fractions_y + c + i)));
    }
    for (int i = 0; i < 2 * kLanes; i += 4) {
      F32x4 v[4];
      for (int k = 0; k < 4; ++k) {
        const float* const upper = pixels + room.offsets[c + offset_place(i + k)];
        const float* const lower = upper + stride;
        const auto at = [](const float* from) { return load_unaligned<F32x4>(from); };
        const F32x4 fraction_x = F32x4{} + x[i + k], fraction_y = F32x4{} + y[i + k];
        const F32x4 left = between(at(upper), at(lower), fraction_y);
        const F32x4 right = between(at(upper + 4), at(lower + 4), fraction_y);
        v[k] = between(left, right, fraction_x);
      }
      transpose_fours(v);
      for (int n = 0; n < kChannels; ++n)
        store_unaligned(samples_of_row<float>(room, n) + c + i, v[n]);
    }
  }
}

template <int kChannels, class Out>
void warp_rows(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  constexpr int kFloats = kChannels == 1 ? 1 : 4;
  warp_box_rows<float, Out>(args, tile, room, stream, kFloats,
                            [&](std::int64_t stride, Columns seen) {
                              sample_floats(room, stride, seen, Number<kChannels>{});
                            });
}

template <int kChannels>
void warp_channels(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  by_narrow_dtype(args.in_dtype, [&]<class T>() {
    lay_float_box<kChannels, T>(args, tile, reinterpret_cast<float*>(room.pixels));
  });
  by_narrow_image_dtype(args.out_dtype,
                        [&]<class Out>() { warp_rows<kChannels, Out>(args, tile, room, stream); });
}

}  // namespace

void warp_floats(const AugmentArgs& args, const WarpTile& tile, WarpRoom& room, bool stream) {
  if (args.warp.channels == 1) return warp_channels<1>(args, tile, room, stream);
  if (args.warp.channels == 3) return warp_channels<3>(args, tile, room, stream);
  warp_channels<4>(args, tile, room, stream);
}

}  // namespace strop::augment::simd::STROP_ISA
