#pragma once

#include "quantize/fake_quantize.h"

namespace strop::quantize {

// masked_gradient: the gradient of fake_quantize under given scales, straight through where the
// code was in range.
//
//   dx[i] = mask bit i ? dy[i] : 0
//
// dy and dx are dense and of one layout, the mask as FakeQuantizeArgs has it: i counts elements in
// memory. Of any element type of 2, 4 or 8 bytes, whose bits are copied or left 0.
struct MaskedGradientArgs {
  int item_bytes;
  std::int64_t count;
  const void* gradient;
  const std::uint8_t* mask;
  void* output;
};

void run(const MaskedGradientArgs& args, Oracle);
void run(const MaskedGradientArgs& args, const ExecutionOptions& options);
void run(const MaskedGradientArgs& args, const Launch& on);

// learned_gradient: the same, and the gradients of scale and of a floating zero point as well
// (learned step size quantization: Esser et al., 2020; with zero points Bhalgat et al., 2020).
//
//            in range                                      out of range
//   dx       dy                                            0
//   dscale   dy * ((code - zero_point) - x * inverse)      dy * (bound - zero_point)
//   dzero    0                                             -dy * scale
//
// with code, bound and inverse as in fake_quantize. dscale and dzero are summed over the elements
// that share the parameter and multiplied by `factor`. All tensors are contiguous.
//
// Note [Order of sums]
// The sums are the same to the bit on every instruction set, for any number of threads and on a
// GPU, because their order is a function of the shape alone. A run is at most kRunColumns elements
// of one block in one row of the simplified problem. Within it float32 sums of the elements 0, 16,
// 32..., of 1, 17, 33... and so on are added in halves: i + 8 to i, i + 4 to i, i + 2, i + 1. Runs
// are summed in double, row by row, then tile by tile (quantize/kernels.h), of a size that depends
// on nothing else either. In blocks of fewer than 16 columns every element is a run.
struct LearnedGradientArgs {
  FakeQuantizeArgs forward;  // output is dx; scale is given
  const void* gradient;      // of the dtype of the input
  double factor;
  void* scale_gradient;  // of the scale's dtype and shape
  void* zero_gradient;   // likewise, or nullptr
  std::int64_t scale_count;
  std::int64_t zero_count;
};

// The oracle sums in double.
void run(const LearnedGradientArgs& args, Oracle);
void run(const LearnedGradientArgs& args, const ExecutionOptions& options);
// On a GPU, with so many bytes of any content; float64's sums are in another order there.
std::size_t workspace_bytes(const LearnedGradientArgs& args, const Launch& on);
void run(const LearnedGradientArgs& args, void* workspace, const Launch& on);

inline constexpr std::int64_t kRunColumns = 512;
inline constexpr int kRunLanes = 16;

// The tiles of a simplified problem whose sums are kept apart.
struct SumTiles {
  TileShape shape;
  std::int64_t blocks_held;  // the most that a tile touches along the inner dimension
};

inline constexpr std::int64_t kMaxSumBlocks = 1024;

SumTiles sum_tiles(const FakeQuantizeArgs& simplified);

// One element's terms.
template <class T>
struct LearnedTerms {
  T input;
  T scale;
  T zero_point;
};

// `code` is the element's before it is clamped, `scaled` what it is rounded from.
template <class T>
STROP_INLINE LearnedTerms<T> terms_of_code(T scaled, T code, T dy, const QuantizeParams<T>& p,
                                           const CodeRange<T>& range) {
  const T clamped = min(range.max, max(range.min, code));
  const auto in_range = eq(clamped, code);
  const T zero(0.0f);
  const T slope = (clamped - p.zero_point) - select(in_range, scaled, zero);
  return {select(in_range, dy, zero), dy * slope, select(in_range, zero, zero - dy * p.scale)};
}

template <Rounding kRounding, bool kFloatingZero, class T>
STROP_INLINE LearnedTerms<T> learned_terms(T x, T dy, const QuantizeParams<T>& p,
                                           const CodeRange<T>& range, T u) {
  const T scaled = x * p.inverse;
  const T code = unclamped_code<kRounding, kFloatingZero>(scaled, p.zero_point, u);
  return terms_of_code(scaled, code, dy, p, range);
}

// Of a format that is no integer: code and bound are values of the grid.
template <class T>
STROP_INLINE LearnedTerms<T> terms_on_grid(T scaled, const Quantized<T>& found, T dy) {
  const T zero(0.0f);
  const T slope = found.value - select(found.in_range, scaled, zero);
  return {select(found.in_range, dy, zero), dy * slope, zero};
}

template <Rounding kRounding, class T, class Grid>
STROP_INLINE LearnedTerms<T> learned_terms_on_grid(T x, T dy, const QuantizeParams<T>& p,
                                                   const Grid& grid, T u) {
  const T scaled = x * p.inverse;
  return terms_on_grid(scaled, on_grid<kRounding>(scaled, grid, u), dy);
}

}  // namespace strop::quantize
