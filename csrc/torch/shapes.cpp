#include "torch/augment_ops.h"

namespace strop {
namespace {

// See Note [Ops without data].
struct Shapes {
  explicit Shapes(const Tensor&) {}
  void augment_images(const AugmentArgs&) {}
  void augment_gradient(const AugmentGradientArgs&) {}
  void warp_masks(const WarpMasksArgs&) {}
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop_shapes, m) { define_augment_ops(m); }

STABLE_TORCH_LIBRARY_IMPL(strop_shapes, Meta, m) { AugmentOps<Shapes>::implement(m); }

}  // namespace strop
