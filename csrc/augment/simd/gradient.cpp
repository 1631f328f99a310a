// The gradient of floating images: pixel by pixel of the result, into sums of the input's pixels
// that a thread's scratch holds. Where it has room for a plane with a border, and for a row, pixels
// are located as those of a warp are, and what falls on the border is dropped; else band by band,
// tap by tap.

#include "augment/simd/finish.h"
#include "augment/simd/positions.h"
#include "augment/simd/rows.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

// A direction's taps and what each gets; a tap of -1 gets nothing.
struct Split {
  std::int64_t tap[2];
  float fraction;  // of the second one; 0: the first gets all
};

struct Splitter {
  const Warp& warp;

  // False: the pixel is fill.
  STROP_MEMBER bool split(std::int64_t position, std::int64_t pixels, Split& to) const {
    const FillMode mode = warp.fill_mode;
    if (mode == FillMode::kHardConstant && !inside(position, pixels)) return false;
    std::int64_t p = position_within(mode, position, pixels);
    to.fraction = 0;
    if (warp.interpolation == Interpolation::kNearest) {
      p += kOnePixel / 2;
    } else {
      to.fraction = static_cast<float>(p & (kOnePixel - 1)) * 0x1p-15f;
    }
    for (int i = 0; i < 2; ++i) {
      const std::int64_t tap = tap_of(mode, (p >> kPositionBits) + i, pixels);
      to.tap[i] = tap < pixels ? tap : -1;
    }
    if (to.fraction == 0) to.tap[1] = -1;
    return true;
  }
};

// A band's sums, and whose share they are.
struct Band {
  float* sums;
  std::int64_t row, row_end;
  std::int64_t stride;

  STROP_MEMBER void add(std::int64_t tap_row, const Split& x, float g) const {
    if (tap_row < row || tap_row >= row_end) return;  // (-1 is before all)
    float* const to = sums + (tap_row - row) * stride;
    const float second = x.fraction == 0 ? 0 : g * x.fraction;
    const float first = x.fraction == 0 ? g : g - second;
    if (x.tap[0] >= 0) to[x.tap[0]] += first;
    if (x.tap[1] >= 0) to[x.tap[1]] += second;
  }
};

// Whether a row of the result can reach a band at all; modes that fold or wrap reach everywhere.
bool reaches(const Warp& warp, const PositionLine& y, std::int64_t row, const Band& band) {
  if (warp.fill_mode > FillMode::kNearest) return true;
  const std::int64_t ends[] = {y.at(row, 0), y.at(row, warp.out_width - 1)};
  const std::int64_t low = ends[0] < ends[1] ? ends[0] : ends[1];
  const std::int64_t high = ends[0] < ends[1] ? ends[1] : ends[0];
  const FillMode mode = warp.fill_mode;
  const std::int64_t first = position_within(mode, low - 2, warp.in_height) - kOnePixel;
  const std::int64_t last = position_within(mode, high + 2, warp.in_height) + kOnePixel;
  return last >= band.row * kOnePixel && first < band.row_end * kOnePixel;
}

template <class In>
void add_all(const AugmentGradientArgs& args, const GradientBand& from, const PositionMap& map,
             const Band& band) {
  const Warp& warp = args.warp;
  const Splitter splitter = {warp};
  const float scale = scale_and_offset<float, float>(args.normalization, from.channel).scale;
  const ImageStrides& s = args.in_strides;
  const In* const plane =
      static_cast<const In*>(args.in) + from.image * s.image + from.channel * s.channel;
  for (std::int64_t row = 0; row < warp.out_height; ++row) {
    if (!reaches(warp, map.y, row, band)) continue;
    for (std::int64_t column = 0; column < warp.out_width; ++column) {
      Split x, y;
      if (!splitter.split(map.y.at(row, column), warp.in_height, y) ||
          !splitter.split(map.x.at(row, column), warp.in_width, x)) {
        continue;
      }
      const float g = to_float(plane[row * s.row + column * s.column]) * scale;
      const float lower = y.fraction == 0 ? 0 : g * y.fraction;
      const float upper = y.fraction == 0 ? g : g - lower;
      band.add(y.tap[0], x, upper);
      band.add(y.tap[1], x, lower);
    }
  }
}

// A plane with a border: a pixel before it, and two after it.
InBox bordered(const Warp& warp) { return {-1, -1, warp.in_height + 3, warp.in_width + 3}; }

// (kGridWrap's last taps are those of the first pixels, and have their turn among them)
bool has_room(const Warp& warp) {
  const InBox box = bordered(warp);
  return box.fits(sizeof(float)) && warp.out_width <= kMaxTileColumns &&
         warp.fill_mode != FillMode::kGridWrap;
}

STROP_INLINE void add_pixel(float* upper, std::int64_t stride, float g, float x, float y) {
  // What has no weight gets 0, also of Inf and NaN; sums are never -0, so that 0 changes none.
  const float lower_part = y == 0 ? 0 : g * y;
  const float upper_part = y == 0 ? g : g - lower_part;
  const auto add = [x](float* to, float part) {
    const float second = x == 0 ? 0 : part * x;
    to[0] += x == 0 ? part : part - second;
    to[1] += second;
  };
  add(upper, upper_part);
  add(upper + stride, lower_part);
}

// A row of the result's gradient, as far as it sees the image.
template <class In>
struct GradientRow {
  const In* from;
  std::int64_t step;
  float scale;
  Columns seen;
  bool hard;  // kHardConstant
};

template <class In>
void add_row(const GradientRow<In>& row, WarpScratch& scratch, std::int64_t stride) {
  auto* const sums = reinterpret_cast<float*>(scratch.pixels);
  for (int c = row.seen.begin; c < row.seen.end; ++c) {
    if (row.hard && scratch.outside[c] != 0) continue;
    const int pair = c / (2 * kLanes) * (2 * kLanes);
    const float g = to_float(row.from[c * row.step]) * row.scale;
    add_pixel(sums + scratch.offsets[pair + offset_place(c - pair)], stride, g,
              static_cast<float>(scratch.fractions_x[c]) * 0x1p-15f,
              static_cast<float>(scratch.fractions_y[c]) * 0x1p-15f);
  }
}

template <class In>
void add_all_in_scratch(const AugmentGradientArgs& args, const GradientBand& from,
                        const PositionMap& map, WarpScratch& scratch) {
  const Warp& warp = args.warp;
  const float scale = scale_and_offset<float, float>(args.normalization, from.channel).scale;
  const ImageStrides& s = args.in_strides;
  const In* const plane =
      static_cast<const In*>(args.in) + from.image * s.image + from.channel * s.channel;
  const WarpTile tile = {.method = TileMethod::kBox,
                         .image = from.image,
                         .map = map,
                         .out = {0, warp.out_height, 0, warp.out_width},
                         .box = bordered(warp)};
  const auto stride = static_cast<int>(tile.box.columns);
  const Locator at = locator(warp, tile, 1, stride, scratch);
  const auto width = static_cast<int>(warp.out_width);
  for (std::int64_t row = 0; row < warp.out_height; ++row) {
    Columns seen = at.locate(scratch, row);
    if (seen.end > width) seen.end = width;
    add_row<In>({.from = plane + row * s.row,
                 .step = s.column,
                 .scale = scale,
                 .seen = seen,
                 .hard = warp.fill_mode == FillMode::kHardConstant},
                scratch, stride);
  }
}

template <class Out>
void round_all(const AugmentGradientArgs& args, const GradientBand& to, const Band& band) {
  const ImageStrides& s = args.out_strides;
  Out* const plane = static_cast<Out*>(args.out) + to.image * s.image + to.channel * s.channel;
  for (std::int64_t row = to.row; row < to.row_end; ++row) {
    const float* const sums = band.sums + (row - to.row) * band.stride;
    for (std::int64_t column = 0; column < args.warp.in_width; ++column) {
      plane[row * s.row + column * s.column] = FromFloat<Out>::call(sums[column]);
    }
  }
}

}  // namespace

void gradient(const AugmentGradientArgs& args, const GradientBand& to, WarpScratch& scratch) {
  const Warp& warp = args.warp;
  const bool whole = has_room(warp);
  const InBox box = bordered(warp);
  auto* const sums = reinterpret_cast<float*>(scratch.pixels);
  const std::int64_t count = whole ? box.pixels() : (to.row_end - to.row) * warp.in_width;
  std::memset(sums, 0, static_cast<std::size_t>(count) * sizeof(float));
  // (a plane that has room is one band)
  const Band band = whole ? Band{sums + box.columns + 1, 0, warp.in_height, box.columns}
                          : Band{sums, to.row, to.row_end, warp.in_width};
  const PositionMap map = position_map(warp, to.image);
  if (map.near) {
    by_narrow_dtype(args.in_dtype, [&]<class In>() {
      if (whole) {
        add_all_in_scratch<In>(args, to, map, scratch);
      } else {
        add_all<In>(args, to, map, band);
      }
    });
  }
  by_narrow_dtype(args.out_dtype, [&]<class Out>() { round_all<Out>(args, to, band); });
}

}  // namespace strop::augment::simd::STROP_ISA
