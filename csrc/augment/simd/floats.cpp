// Warps of floating images by boxes.

#include "augment/simd/box_rows.h"
#include "augment/simd/boxes.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class V>
STROP_INLINE V lerp(V first, V second, V fraction) {
  const V mixed = first + fraction * (second - first);
  return fraction == 0 ? first : mixed;
}

STROP_INLINE F32 of_units(I32 units) { return __builtin_convertvector(units, F32) * 0x1p-15f; }

STROP_INLINE F32 sample(const float* plane, std::int64_t stride, const std::int32_t* offset, F32 x,
                        F32 y) {
  const F32 left = lerp(gathered(plane, offset), gathered(plane + stride, offset), y);
  const F32 right = lerp(gathered(plane + 1, offset), gathered(plane + stride + 1, offset), y);
  return lerp(left, right, x);
}

// One channel.
void sample_floats(WarpScratch& scratch, std::int64_t stride, Columns columns, Number<1>) {
  const auto* const plane = reinterpret_cast<const float*>(scratch.pixels);
  float* const to = samples_of_row<float>(scratch, 0);
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    // (even columns' are the low words; none is negative)
    const I32 x = load_unaligned<I32>(scratch.fractions_x + c);
    const I32 y = load_unaligned<I32>(scratch.fractions_y + c);
    const std::int32_t* const offset = scratch.offsets + c;
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
void sample_floats(WarpScratch& scratch, std::int64_t stride, Columns columns, Number<kChannels>) {
  const auto* const pixels = reinterpret_cast<const float*>(scratch.pixels);
  for (int c = columns.begin; c < columns.end; c += 2 * kLanes) {
    float x[2 * kLanes], y[2 * kLanes];
    for (int i = 0; i < 2 * kLanes; i += kLanes) {
      store_unaligned(x + i, of_units(from_words(scratch.fractions_x + c + i)));
      store_unaligned(y + i, of_units(from_words(scratch.fractions_y + c + i)));
    }
    for (int i = 0; i < 2 * kLanes; i += 4) {
      F32x4 v[4];
      for (int k = 0; k < 4; ++k) {
        const float* const upper = pixels + scratch.offsets[c + offset_place(i + k)];
        const float* const lower = upper + stride;
        const auto at = [](const float* from) { return load_unaligned<F32x4>(from); };
        const F32x4 fraction_x = F32x4{} + x[i + k], fraction_y = F32x4{} + y[i + k];
        const F32x4 left = lerp(at(upper), at(lower), fraction_y);
        const F32x4 right = lerp(at(upper + 4), at(lower + 4), fraction_y);
        v[k] = lerp(left, right, fraction_x);
      }
      transpose_fours(v);
      for (int n = 0; n < kChannels; ++n)
        store_unaligned(samples_of_row<float>(scratch, n) + c + i, v[n]);
    }
  }
}

template <int kChannels, class Out>
void warp_rows(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  constexpr int kFloats = kChannels == 1 ? 1 : 4;
  warp_box_rows<float, Out>(args, tile, scratch, stream, kFloats,
                            [&](std::int64_t stride, Columns seen) {
                              sample_floats(scratch, stride, seen, Number<kChannels>{});
                            });
}

template <int kChannels>
void warp_channels(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch,
                   bool stream) {
  by_narrow_dtype(args.in_dtype, [&]<class T>() {
    lay_float_box<kChannels, T>(args, tile, reinterpret_cast<float*>(scratch.pixels));
  });
  by_narrow_image_dtype(
      args.out_dtype, [&]<class Out>() { warp_rows<kChannels, Out>(args, tile, scratch, stream); });
}

}  // namespace

void warp_floats(const AugmentArgs& args, const WarpTile& tile, WarpScratch& scratch, bool stream) {
  if (args.warp.channels == 1) return warp_channels<1>(args, tile, scratch, stream);
  if (args.warp.channels == 3) return warp_channels<3>(args, tile, scratch, stream);
  warp_channels<4>(args, tile, scratch, stream);
}

}  // namespace strop::augment::simd::STROP_ISA
