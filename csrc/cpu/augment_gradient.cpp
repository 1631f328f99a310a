// The gradient of floating images: pixel by pixel of the result, into a band of the input that the
// caller's sums hold.

#include "cpu/augment_finish.h"
#include "cpu/augment_rows.h"

namespace strop::cpu::STROP_ISA {
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
  std::int64_t row, row_end, columns;

  STROP_MEMBER void add(std::int64_t tap_row, const Split& x, float g) const {
    if (tap_row < row || tap_row >= row_end) return;  // (-1 is before all)
    float* const to = sums + (tap_row - row) * columns;
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

template <class Out>
void round_all(const AugmentGradientArgs& args, const GradientBand& to, const Band& band) {
  const ImageStrides& s = args.out_strides;
  Out* const plane = static_cast<Out*>(args.out) + to.image * s.image + to.channel * s.channel;
  for (std::int64_t row = to.row; row < to.row_end; ++row) {
    const float* const sums = band.sums + (row - to.row) * band.columns;
    for (std::int64_t column = 0; column < band.columns; ++column) {
      plane[row * s.row + column * s.column] = FromFloat<Out>::call(sums[column]);
    }
  }
}

}  // namespace

void gradient(const AugmentGradientArgs& args, const GradientBand& to) {
  const Band band = {to.sums, to.row, to.row_end, args.warp.in_width};
  std::memset(to.sums, 0,
              static_cast<std::size_t>((to.row_end - to.row) * band.columns) * sizeof(float));
  const PositionMap map = position_map(args.warp, to.image);
  if (map.near) {
    by_narrow_dtype(args.in_dtype, [&]<class In>() { add_all<In>(args, to, map, band); });
  }
  by_narrow_dtype(args.out_dtype, [&]<class Out>() { round_all<Out>(args, to, band); });
}

}  // namespace strop::cpu::STROP_ISA
