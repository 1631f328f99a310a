#pragma once

#include "augment/images.h"
#include "core/tensor_view.h"

namespace strop::augment {

// warp_points for float32 and float64: what moves with the content of a warped image.
//
//   matrices [B or 1, 2, 3]   output pixel to input pixel, M = [A | t], in index coordinates
//   points   [B, N, 2]        (x, y) becomes A^-1 ((x, y) - t)
//   output   [B, N, 2]
//
// In float64 whatever the dtype, rounded once, and to the bit what the composite of torch's ops in
// python/strop/_augment/points.py gives: this is its shorter way on a CPU, where each of torch's
// ops costs more than a small batch's work.
//
// Without an inverse a point becomes NaN, and so does one that is not finite. An entry beyond
// 2^100, or a determinant below 2^-500, is as none: float64 would not hold what comes between.
// The output is contiguous and overlaps nothing; everything else has any strides.

// Points or boxes, [B, N, 2] or [B, N, 4], and the matrices that move them.
struct WarpedItems {
  DType dtype;         // float32 or float64
  DType matrix_dtype;  // likewise
  std::int64_t samples;
  std::int64_t count;  // of a sample
  const void* items;
  std::int64_t stride[3];  // of samples, items, coordinates
  const void* matrices;
  MatrixStrides matrix_strides;  // image is 0 where one is for all

  // One coordinate, of type T.
  template <class T>
  double at(std::int64_t sample, std::int64_t item, std::int64_t coordinate) const {
    return static_cast<const T*>(
        items)[sample * stride[0] + item * stride[1] + coordinate * stride[2]];
  }
};

struct WarpPointsArgs {
  WarpedItems points;
  void* out;
};

void run(const WarpPointsArgs& args, Oracle);
void run(const WarpPointsArgs& args, const ExecutionOptions& options);

// Throws ArgumentError; `coordinates` is what an item has.
void check_warped_items(const char* op, const TensorView& items, std::int64_t coordinates,
                        const TensorView& matrices);
// Of checked tensors.
WarpedItems warped_items(const TensorView& items, const TensorView& matrices);

}  // namespace strop::augment
