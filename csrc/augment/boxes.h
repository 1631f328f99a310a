#pragma once

#include "augment/points.h"

namespace strop::augment {

// warp_boxes for float32 and float64, as warp_points has points: to the bit what
// python/strop/_augment/boxes.py gives.
//
//   boxes    [B, N, 4]   xyxy at the edges of pixels: index coordinates are half a pixel less
//   output   [B, N, 4]   the box around what of the moved corners' shape is in the output
//   visible  [B, N]      the share of the shape's area that this is; null: not wanted
//
// What of a shape is in the output is asked along each axis by itself: the range of that part of it
// that is between the output's sides on the other axis, or of all of it where no part is; clipped.
// A shape beside the output so becomes a box without area, which is not visible.
//
// Sides are cut first where they are farther from what the output shows than 2^20 times its extent:
// they would cost accuracy, and may be infinite. The share of an infinite box is 0.
//
// A box without area becomes 0 in every side, and so does each one without an inverse.

struct WarpBoxesArgs {
  WarpedItems boxes;
  double height;  // of the output
  double width;
  void* out;
  void* visible;
};

void run(const WarpBoxesArgs& args, Oracle);
void run(const WarpBoxesArgs& args, const ExecutionOptions& options);

}  // namespace strop::augment
