#include "augment/images.h"

#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#include "augment/reference/taps.h"

namespace strop::augment::reference {
namespace {

std::int64_t offset(const ImageStrides& s, std::int64_t image, std::int64_t channel, Pixel at) {
  return image * s.image + channel * s.channel + at.row * s.row + at.column * s.column;
}

// float32 for all but float64, which is computed with as it is.
template <class In, class Out>
using Arithmetic =
    std::conditional_t<std::is_same_v<In, double> || std::is_same_v<Out, double>, double, float>;

template <class Number>
struct Affine {
  Number scale;
  Number offset;
};

template <class Number>
Affine<Number> normalization(const Normalization& n, std::int64_t channel, double unit) {
  const double std = n.std_of(channel);
  return {static_cast<Number>(1 / (unit * std)), static_cast<Number>(-n.mean_of(channel) / std)};
}

// h(n, f) of the specification.
int share(int n, int fraction) { return (n * fraction + (1 << 14)) >> 15; }

int mixed_bytes(const int (&tap)[4], Fraction x, Fraction y) {
  const int left = 64 * tap[0] + share(64 * (tap[2] - tap[0]), y.units);
  const int right = 64 * tap[1] + share(64 * (tap[3] - tap[1]), y.units);
  return left + share(right - left, x.units);
}

template <class Number>
Number lerp(Number first, Number second, Fraction f) {
  if (f.units == 0) return first;
  const Number part = static_cast<Number>(f.units) / 32768;
  const Number product = part * (second - first);
  return first + product;
}

template <class Number>
Number mixed_floats(const Number (&tap)[4], Fraction x, Fraction y) {
  return lerp(lerp(tap[0], tap[2], y), lerp(tap[1], tap[3], y), x);
}

std::uint8_t byte_of(double levels) {
  const double rounded = std::nearbyint(levels);
  if (!(rounded > 0)) return 0;
  return rounded > 255 ? 255 : static_cast<std::uint8_t>(rounded);
}

// One element of the result, from its four taps: a number each, or nothing for fill.
template <class In, class Out>
Out element(const AugmentArgs& args, std::int64_t image, std::int64_t channel, const Taps& taps) {
  using Number = Arithmetic<In, Out>;
  constexpr bool kBytes = std::is_same_v<In, std::uint8_t>;
  using Value = std::conditional_t<kBytes, int, Number>;
  Value tap[4];
  for (int i = 0; i < 4; ++i) {
    tap[i] = static_cast<Value>(args.fill[channel]);
    if (!taps.at[i]) continue;
    const In& in =
        static_cast<const In*>(args.in)[offset(args.in_strides, image, channel, *taps.at[i])];
    if constexpr (kBytes) {
      tap[i] = in;
    } else {
      tap[i] = to_float(in);
    }
  }
  constexpr double kUnit = kBytes ? 255.0 * 64 : 1.0;
  Value value;
  if constexpr (kBytes) {
    value = mixed_bytes(tap, taps.x, taps.y);
  } else {
    value = mixed_floats<Number>(tap, taps.x, taps.y);
  }
  if constexpr (std::is_same_v<Out, std::uint8_t>) {
    if constexpr (kBytes) return byte_of(value / 64.0);
    return byte_of(value * static_cast<Number>(255));
  } else {
    const Affine<Number> by = normalization<Number>(args.normalization, channel, kUnit);
    const Number product = static_cast<Number>(value) * by.scale;
    const Number result = product + by.offset;
    if constexpr (std::is_same_v<Out, double>) return result;
    return FromFloat<Out>::call(static_cast<float>(result));
  }
}

template <class In, class Out>
void augment_as(const AugmentArgs& args) {
  for_each_pixel(args.warp, [&](std::int64_t image, Pixel pixel, const Taps& taps) {
    for (std::int64_t c = 0; c < args.warp.channels; ++c) {
      static_cast<Out*>(args.out)[offset(args.out_strides, image, c, pixel)] =
          element<In, Out>(args, image, c, taps);
    }
  });
}

// Splits a pixel's gradient among its taps.
template <class Number>
void split(Number g, const Taps& taps, Number (&part)[4]) {
  const auto share_of = [](Number whole, Fraction f, Number& first, Number& second) {
    second = f.units == 0 ? 0 : whole * (static_cast<Number>(f.units) / 32768);
    first = f.units == 0 ? whole : whole - second;
  };
  Number upper, lower;
  share_of(g, taps.y, upper, lower);
  share_of(upper, taps.x, part[0], part[1]);
  share_of(lower, taps.x, part[2], part[3]);
}

template <class In, class Out>
void gradient_as(const AugmentGradientArgs& args) {
  using Number = Arithmetic<In, Out>;
  const Warp& warp = args.warp;
  const std::int64_t plane = warp.in_height * warp.in_width;
  std::vector<Number> sums(static_cast<std::size_t>(warp.batch * warp.channels * plane), 0);
  for_each_pixel(warp, [&](std::int64_t image, Pixel pixel, const Taps& taps) {
    for (std::int64_t c = 0; c < warp.channels; ++c) {
      const In in = static_cast<const In*>(args.in)[offset(args.in_strides, image, c, pixel)];
      const Number scale = normalization<Number>(args.normalization, c, 1).scale;
      Number part[4];
      split<Number>(static_cast<Number>(to_float(in)) * scale, taps, part);
      for (int i = 0; i < 4; ++i) {
        const bool weightless = (i % 2 == 1 && taps.x.units == 0) || (i > 1 && taps.y.units == 0);
        if (!taps.at[i] || weightless) continue;
        const std::int64_t at = taps.at[i]->row * warp.in_width + taps.at[i]->column;
        sums[static_cast<std::size_t>((image * warp.channels + c) * plane + at)] += part[i];
      }
    }
  });
  for (std::int64_t i = 0; i < warp.batch * warp.channels * plane; ++i) {
    const Pixel pixel = {i % plane / warp.in_width, i % warp.in_width};
    const std::int64_t c = i / plane % warp.channels, image = i / plane / warp.channels;
    static_cast<Out*>(args.out)[offset(args.out_strides, image, c, pixel)] =
        FromFloat<Out>::call(sums[static_cast<std::size_t>(i)]);
  }
}

}  // namespace
}  // namespace strop::augment::reference

namespace strop::augment {

// float64 images have no other implementation on a CPU.
void run(const AugmentArgs& args, Oracle) {
  if (args.warp.empty()) return;
  by_image_dtype(args.in_dtype, [&]<class In>() {
    by_image_dtype(args.out_dtype, [&]<class Out>() { reference::augment_as<In, Out>(args); });
  });
}

void run(const AugmentGradientArgs& args, Oracle) {
  by_dtype(args.in_dtype, [&]<class In>() {
    by_dtype(args.out_dtype, [&]<class Out>() { reference::gradient_as<In, Out>(args); });
  });
}

void run(const WarpMasksArgs& args, Oracle) {
  if (args.warp.empty()) return;
  using reference::Pixel;
  const auto item = static_cast<std::size_t>(args.item);
  const auto copy = [&](std::int64_t image, Pixel pixel, const reference::Taps& taps) {
    for (std::int64_t c = 0; c < args.warp.channels; ++c) {
      const auto at = [&](const void* base, const ImageStrides& strides, Pixel where) {
        return static_cast<const std::uint8_t*>(base) +
               reference::offset(strides, image, c, where) * args.item;
      };
      auto* const to = const_cast<std::uint8_t*>(at(args.out, args.out_strides, pixel));
      const void* from = &args.fill;
      if (taps.at[0]) from = at(args.in, args.in_strides, *taps.at[0]);
      std::memcpy(to, from, item);
    }
  };
  reference::for_each_pixel(args.warp, copy);
}

}  // namespace strop::augment
