#pragma once

#include "augment/kernels.h"
#include "augment/simd/copy.h"
#include "core/simd/unroll.h"
#include "core/simd/vector.h"

// Boxes of an image, laid out for its taps. See Note [Warping on a CPU].

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// The part of a box's row, or column, that lies within the image: [begin, end) of the box.
struct Part {
  std::int64_t begin;
  std::int64_t end;
};

STROP_INLINE Part part_within(std::int64_t first, std::int64_t count, std::int64_t pixels) {
  const std::int64_t begin = first < 0 ? -first : 0;
  const std::int64_t left = pixels - first;
  const std::int64_t end = left < count ? left : count;
  return {begin < count ? begin : count, end > begin ? end : begin};
}

// What is read in place of an index outside; false: fill. (Where it is neither, nothing comes of
// it: such taps have weight 0.)
STROP_INLINE bool border_index(FillMode mode, std::int64_t& index, std::int64_t pixels) {
  if (index >= 0 && index < pixels) return true;
  if (mode == FillMode::kConstant) return false;
  index = index < 0 ? 0 : mode == FillMode::kGridWrap ? 0 : pixels - 1;
  return true;
}

// Rows of four channels, from planes or from pixels side by side.
struct PixelRow {
  const std::uint8_t* from;  // of the first pixel
  std::int64_t channel, column;
  int channels;
};

STROP_INLINE void store_pixels(std::uint8_t* to, B16 r, B16 g, B16 b, B16 x) {
  const B16 rg =
      __builtin_shufflevector(r, g, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const B16 bx =
      __builtin_shufflevector(b, x, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const B16 rg_high =
      __builtin_shufflevector(r, g, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  const B16 bx_high =
      __builtin_shufflevector(b, x, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  using W8 = std::uint16_t __attribute__((vector_size(16)));
  const auto low = [](B16 p, B16 q) {
    return __builtin_shufflevector(bit_cast<W8>(p), bit_cast<W8>(q), 0, 8, 1, 9, 2, 10, 3, 11);
  };
  const auto high = [](B16 p, B16 q) {
    return __builtin_shufflevector(bit_cast<W8>(p), bit_cast<W8>(q), 4, 12, 5, 13, 6, 14, 7, 15);
  };
  store_unaligned(to, low(rg, bx));
  store_unaligned(to + 16, high(rg, bx));
  store_unaligned(to + 32, low(rg_high, bx_high));
  store_unaligned(to + 48, high(rg_high, bx_high));
}

// Bytes that are asked for ahead of time, the next image's among them: worth 5 % of a warp from
// planes and 8 % from pixels side by side (Zen 5).
inline constexpr std::int64_t kPrefetchPlane = 2048;
inline constexpr std::int64_t kPrefetchPixels = 4096;

STROP_INLINE void lay_pixels(const PixelRow& row, std::int64_t count, std::uint8_t* to) {
  std::int64_t i = 0;
  if (row.column == 1) {
    for (; i + 16 <= count; i += 16) {
      const auto plane = [&](int c) { return load_unaligned<B16>(row.from + c * row.channel + i); };
      for (int c = 0; i % 64 == 0 && c < row.channels; ++c) {
        prefetch(row.from + c * row.channel + i + kPrefetchPlane);
      }
      store_pixels(to + 4 * i, plane(0), plane(1), plane(2), plane(row.channels - 1));
    }
  } else if (row.channel == 1 && row.column == 3) {
    const auto four = [&](std::int64_t at) STROP_UNROLLED {
      const B16 bytes = load_unaligned<B16>(row.from + 3 * at);
      store_unaligned(to + 4 * at, __builtin_shufflevector(bytes, bytes, 0, 1, 2, 2, 3, 4, 5, 5, 6,
                                                           7, 8, 8, 9, 10, 11, 11));
    };
    for (; i + 18 <= count; i += 16) {  // (reads 16 bytes, of which 12 are four pixels)
      prefetch(row.from + 3 * i + kPrefetchPixels);
      unrolled<4>([&](auto n) STROP_UNROLLED { four(i + 4 * n); });
    }
  } else if (row.channel == 1 && row.column == 4) {
    std::memcpy(to, row.from, static_cast<std::size_t>(4 * count));
    return;
  }
  for (; i < count; ++i) {
    for (int c = 0; c < 4; ++c) {
      const int own = c < row.channels ? c : 0;
      to[4 * i + c] = row.from[own * row.channel + i * row.column];
    }
  }
}

// Three or four channels: a pixel is four bytes.
STROP_INLINE void lay_pixel_box(const AugmentArgs& args, const WarpTile& tile,
                                WarpScratch& scratch) {
  const Warp& warp = args.warp;
  const ImageStrides& s = args.in_strides;
  const InBox& box = tile.box;
  const auto* const image = static_cast<const std::uint8_t*>(args.in) + tile.image * s.image;
  const Part part = part_within(box.column, box.columns, warp.in_width);
  std::uint8_t fill[4];
  for (int c = 0; c < 4; ++c) fill[c] = static_cast<std::uint8_t>(args.fill[c]);
  const PixelRow first = {image, s.channel, s.column, static_cast<int>(warp.channels)};
  for (std::int64_t r = 0; r < box.rows; ++r) {
    std::uint8_t* const to = scratch.pixels + r * box.columns * 4;
    std::int64_t y = box.row + r;
    const bool seen = border_index(warp.fill_mode, y, warp.in_height);
    PixelRow row = first;
    row.from = image + y * s.row;
    if (seen) {
      row.from += (box.column + part.begin) * s.column;
      lay_pixels(row, part.end - part.begin, to + 4 * part.begin);
      row.from = image + y * s.row;
    }
    const auto around = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) {
        std::int64_t x = box.column + k;
        if (seen && border_index(warp.fill_mode, x, warp.in_width)) {
          PixelRow one = row;
          one.from += x * s.column;
          lay_pixels(one, 1, to + 4 * k);
        } else {
          std::memcpy(to + 4 * k, fill, 4);
        }
      }
    };
    around(0, seen ? part.begin : box.columns);
    if (seen) around(part.end, box.columns);
  }
}

// One channel: a row of a box as bytes, and a byte beyond.
STROP_INLINE void lay_bytes(const AugmentArgs& args, const WarpTile& tile, std::int64_t y,
                            std::uint8_t* to) {
  const Warp& warp = args.warp;
  const ImageStrides& s = args.in_strides;
  const std::int64_t count = tile.box.columns + 1;
  const auto fill = static_cast<std::uint8_t>(args.fill[0]);
  if (!border_index(warp.fill_mode, y, warp.in_height)) {
    std::memset(to, fill, static_cast<std::size_t>(count));
    return;
  }
  const auto* const row =
      static_cast<const std::uint8_t*>(args.in) + tile.image * s.image + y * s.row;
  const Part part = part_within(tile.box.column, count, warp.in_width);
  copy_elements(row + (tile.box.column + part.begin) * s.column, s.column,
                static_cast<int>(part.end - part.begin), to + part.begin);
  const auto around = [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      std::int64_t x = tile.box.column + k;
      to[k] = border_index(warp.fill_mode, x, warp.in_width) ? row[x * s.column] : fill;
    }
  };
  around(0, part.begin);
  around(part.end, count);
}

// A pixel is its own four taps: upper left, lower left, upper right, lower right.
STROP_INLINE void lay_grey_box(const AugmentArgs& args, const WarpTile& tile,
                               WarpScratch& scratch) {
  const InBox& box = tile.box;
  std::uint8_t* lines[2] = {scratch.finished[0], scratch.finished[0] + kMaxBoxColumns + 32};
  static_assert(sizeof scratch.finished >= 2 * (kMaxBoxColumns + 32));
  lay_bytes(args, tile, box.row, lines[0]);
  for (std::int64_t r = 0; r < box.rows; ++r) {
    const std::uint8_t* const upper = lines[r % 2];
    std::uint8_t* const lower = lines[(r + 1) % 2];
    lay_bytes(args, tile, box.row + r + 1, lower);
    std::uint8_t* const to = scratch.pixels + r * box.columns * 4;
    std::int64_t i = 0;
    for (; i + 16 < box.columns; i += 16) {
      const B16 right_upper = load_unaligned<B16>(upper + i + 1);
      const B16 right_lower = load_unaligned<B16>(lower + i + 1);
      store_pixels(to + 4 * i, load_unaligned<B16>(upper + i), load_unaligned<B16>(lower + i),
                   right_upper, right_lower);
    }
    for (; i < box.columns; ++i) {
      const std::uint8_t quad[4] = {upper[i], lower[i], upper[i + 1], lower[i + 1]};
      std::memcpy(to + 4 * i, quad, 4);
    }
  }
}

// Floating images of one channel: float32.
template <class T>
STROP_INLINE void lay_floats(const T* from, const ImageStrides& s, std::int64_t count, float* to,
                             Number<1>) {
  std::int64_t i = 0;
  if (s.column == 1) {
    for (; i + kLanes <= count; i += kLanes) store<false>(to + i, load(from + i));
  }
  for (; i < count; ++i) to[i] = to_float(from[i * s.column]);
}

// Of three or four: four float32 a pixel, of which the last may be any number.
template <int kChannels, class T>
STROP_INLINE void lay_floats(const T* from, const ImageStrides& s, std::int64_t count, float* to,
                             Number<kChannels>) {
  std::int64_t i = 0;
  if (s.column == 1) {
    for (; i + 4 <= count; i += 4) {
      F32x4 v[4];
      for (int c = 0; c < 4; ++c) {
        v[c] = four(from + (c < kChannels ? c : 0) * s.channel + i);
      }
      transpose_fours(v);
      for (int k = 0; k < 4; ++k) store_unaligned(to + 4 * (i + k), v[k]);
    }
  } else if (s.channel == 1) {
    const std::int64_t whole = kChannels == 4 ? count : count - 1;  // (reads four of three)
    for (; i < whole; ++i) store_unaligned(to + 4 * i, four(from + i * s.column));
  }
  for (; i < count; ++i) {
    for (int c = 0; c < 4; ++c) {
      to[4 * i + c] = to_float(from[(c < kChannels ? c : 0) * s.channel + i * s.column]);
    }
  }
}

template <int kChannels, class T>
STROP_INLINE void lay_float_box(const AugmentArgs& args, const WarpTile& tile, float* to) {
  constexpr int kFloats = kChannels == 1 ? 1 : 4;
  const Warp& warp = args.warp;
  const ImageStrides& s = args.in_strides;
  const InBox& box = tile.box;
  float fill[kFloats];
  for (int c = 0; c < kFloats; ++c) fill[c] = static_cast<float>(args.fill[c]);
  const T* const image = static_cast<const T*>(args.in) + tile.image * s.image;
  const Part part = part_within(box.column, box.columns, warp.in_width);
  for (std::int64_t r = 0; r < box.rows; ++r, to += kFloats * box.columns) {
    std::int64_t y = box.row + r;
    const bool seen = border_index(warp.fill_mode, y, warp.in_height);
    const T* const row = seen ? image + y * s.row : image;
    const auto around = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t k = begin; k < end; ++k) {
        std::int64_t x = box.column + k;
        if (seen && border_index(warp.fill_mode, x, warp.in_width)) {
          lay_floats(row + x * s.column, s, 1, to + kFloats * k, Number<kChannels>{});
        } else {
          std::memcpy(to + kFloats * k, fill, sizeof fill);
        }
      }
    };
    around(0, seen ? part.begin : box.columns);
    if (!seen) continue;
    lay_floats(row + (box.column + part.begin) * s.column, s, part.end - part.begin,
               to + kFloats * part.begin, Number<kChannels>{});
    around(part.end, box.columns);
  }
}

}  // namespace strop::augment::simd::STROP_ISA
