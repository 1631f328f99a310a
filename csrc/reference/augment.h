#pragma once

#include "kernels/augment.h"

// The oracle of augmentation: pixel by pixel, each tap looked up by itself. float64 images have no
// other implementation.
namespace strop::reference {

void augment_images(const AugmentArgs& args);
void augment_gradient(const AugmentGradientArgs& args);
void warp_masks(const WarpMasksArgs& args);

}  // namespace strop::reference
