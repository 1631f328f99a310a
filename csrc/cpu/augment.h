#pragma once

#include "kernels/augment.h"
#include "kernels/parallel.h"

namespace strop::cpu {

// The whole ops, on the instruction set in force.
void augment_images(const AugmentArgs& args, const Parallel& parallel);
void augment_gradient(const AugmentGradientArgs& args, const Parallel& parallel);
void warp_masks(const WarpMasksArgs& args, const Parallel& parallel);

}  // namespace strop::cpu
