#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/execution.h"
#include "core/portability.h"

namespace strop::augment {

// augment_images: each image of a batch is read at positions that an affine matrix gives, output
// pixel to input pixel, and comes out normalised and in another dtype. docs/numerics.md, "Augment",
// has the arithmetic to the bit; in short, for the pixel in row i and column j of the output:
//
//   (x, y) = M (j, i, 1)                     input pixel, in multiples of 2^-15
//   v      = bilinear or nearest sample      uint8: in multiples of 2^-6; else float32
//   out    = v * scale[c] + offset[c]        scale = 1 / (unit * std), offset = -mean / std
//
// Nothing aliases. NaN in an image stays where its taps reach; in a matrix it gives fill.

inline constexpr int kMaxImageChannels = 4;
// Bytes are mixed in multiples of 2^-6 of a grey level: two rows' difference then fits the signed
// bytes that x86 multiplies by at once.
inline constexpr int kMixedBits = 6;
inline constexpr int kMixedOne = 1 << kMixedBits;
// Rows or columns of an image, in or out: positions then fit 64 bits with 32 of fraction.
inline constexpr std::int64_t kMaxImageSide = std::int64_t{1} << 24;

// scipy.ndimage's names. What a tap reads that lies outside of n pixels in a row (a b c d):
//
//   kConstant       f f f f | a b c d | f f f f     fill
//   kHardConstant   fill for every position outside [0, n-1], nothing is blended with it
//   kNearest        a a a a | a b c d | d d d d
//   kReflect        d c b a | a b c d | d c b a
//   kMirror         . d c b | a b c d | c b a .
//   kWrap           b c d b c | a b c d | b c d     period n-1, as scipy has it
//   kGridWrap       a b c d | a b c d | a b c d
enum class FillMode : std::uint8_t {
  kConstant,
  kHardConstant,
  kNearest,
  kReflect,
  kMirror,
  kWrap,
  kGridWrap
};

enum class Interpolation : std::uint8_t { kBilinear, kNearest };

// Calls function.operator()<T>() with the type of an image's elements, float64 apart.
template <class Function>
auto by_narrow_image_dtype(DType dtype, Function function) {
  if (dtype == DType::kUInt8) return function.template operator()<std::uint8_t>();
  return by_narrow_dtype(dtype, function);
}

// The same, float64 among them.
template <class Function>
auto by_image_dtype(DType dtype, Function function) {
  if (dtype == DType::kUInt8) return function.template operator()<std::uint8_t>();
  return by_dtype(dtype, function);
}

// Where an element lies, in elements; of any sign, and 0 where a dimension is repeated.
struct ImageStrides {
  std::int64_t image;
  std::int64_t channel;
  std::int64_t row;
  std::int64_t column;
};

// Of a batch's matrices [B, 2, 3]; image is 0 where one is for all.
struct MatrixStrides {
  std::int64_t image;
  std::int64_t row;
  std::int64_t column;
};

// What becomes of a sample: sequences, or, where they are given, tensors on the images' device.
struct Normalization {
  double mean[kMaxImageChannels] = {0, 0, 0, 0};
  double std[kMaxImageChannels] = {1, 1, 1, 1};
  const float* mean_data = nullptr;
  const float* std_data = nullptr;
  std::int64_t mean_stride = 0;
  std::int64_t std_stride = 0;

  STROP_MEMBER double mean_of(std::int64_t channel) const {
    return mean_data != nullptr ? mean_data[channel * mean_stride] : mean[channel];
  }
  STROP_MEMBER double std_of(std::int64_t channel) const {
    return std_data != nullptr ? std_data[channel * std_stride] : std[channel];
  }
};

// Both ends of a warp: `from` is read at positions, `to` is written pixel by pixel.
struct Warp {
  std::int64_t batch = 0;
  std::int64_t channels = 0;
  std::int64_t in_height = 0;
  std::int64_t in_width = 0;
  std::int64_t out_height = 0;
  std::int64_t out_width = 0;
  const void* matrices = nullptr;        // null: the identity, or pixel centres onto pixel centres
  DType matrix_dtype = DType::kFloat32;  // or float64, of which each entry is rounded to float32
  MatrixStrides matrix_strides = {};
  Interpolation interpolation = Interpolation::kBilinear;
  FillMode fill_mode = FillMode::kConstant;  // kNearest without matrices: a resize has no outside

  constexpr bool empty() const {
    return batch == 0 || channels == 0 || out_height == 0 || out_width == 0;
  }
};

struct AugmentArgs {
  Warp warp;
  DType in_dtype;   // uint8, or floating
  DType out_dtype;  // floating, or uint8
  const void* in;
  void* out;
  ImageStrides in_strides;
  ImageStrides out_strides;
  double fill[kMaxImageChannels];  // in the input's units, as its dtype has them
  Normalization normalization;

  // float64 on either side runs the reference loop.
  constexpr bool wide() const {
    return in_dtype == DType::kFloat64 || out_dtype == DType::kFloat64;
  }
};

// The gradient of floating images: `out` is that of augment_images' input, `in` that of its result.
// Each pixel of `in`, in row-major order, is split among its four taps, (y0, x0), (y0, x1),
// (y1, x0), (y1, x1) in this order, in float32; what is read from fill is dropped.
struct AugmentGradientArgs {
  Warp warp;
  DType in_dtype;
  DType out_dtype;
  const void* in;  // [B, C, out_height, out_width]
  void* out;       // [B, C, in_height, in_width]
  ImageStrides in_strides;
  ImageStrides out_strides;
  Normalization normalization;

  constexpr bool wide() const {
    return in_dtype == DType::kFloat64 || out_dtype == DType::kFloat64;
  }
};

// warp_masks: the nearest element, of any dtype; outside lies fill.
struct WarpMasksArgs {
  Warp warp;     // Interpolation::kNearest; kConstant, or kNearest without matrices; any channels
  int item = 1;  // bytes of an element: 1, 2, 4 or 8
  const void* in = nullptr;
  void* out = nullptr;
  ImageStrides in_strides = {};
  ImageStrides out_strides = {};
  std::uint64_t fill = 0;  // its bits, in the lowest bytes
};

// Parameters that are tensors are read where the op runs.
void run(const AugmentArgs& args, Oracle);
void run(const AugmentArgs& args, const ExecutionOptions& options);
void run(const AugmentArgs& args, const Launch& on);

void run(const AugmentGradientArgs& args, Oracle);
void run(const AugmentGradientArgs& args, const ExecutionOptions& options);
void run(const AugmentGradientArgs& args, const Launch& on);

void run(const WarpMasksArgs& args, Oracle);
void run(const WarpMasksArgs& args, const ExecutionOptions& options);
void run(const WarpMasksArgs& args, const Launch& on);

}  // namespace strop::augment
