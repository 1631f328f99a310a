#include "cpu/augment.h"
#include "reference/augment.h"

namespace strop::cpu {

void augment_images(const AugmentArgs& args, const Parallel&) { reference::augment_images(args); }
void augment_gradient(const AugmentGradientArgs& args, const Parallel&) {
  reference::augment_gradient(args);
}
void warp_masks(const WarpMasksArgs& args, const Parallel&) { reference::warp_masks(args); }

}  // namespace strop::cpu
