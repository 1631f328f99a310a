#pragma once

#include "cuda/launch.h"
#include "kernels/augment.h"

namespace strop::cuda {

// One launch each, whatever the batch; parameters that are tensors are read on the GPU. To the bit
// what reference/augment.cpp computes.
void augment_images(const AugmentArgs& args, const Launch& on);
void augment_gradient(const AugmentGradientArgs& args, const Launch& on);
void warp_masks(const WarpMasksArgs& args, const Launch& on);

// The first of them for any dtype, float64 among them, and images of any extent; not fast.
void augment_any_images(const AugmentArgs& args, const Launch& on);

}  // namespace strop::cuda
