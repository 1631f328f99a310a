#include "cpu/augment.h"

#include "torch/augment_ops.h"

namespace strop {
namespace {

struct Cpu {
  explicit Cpu(const Tensor&) {}
  void augment_images(const AugmentArgs& args) { cpu::augment_images(args, torch_threads()); }
  void augment_gradient(const AugmentGradientArgs& args) {
    cpu::augment_gradient(args, torch_threads());
  }
  void warp_masks(const WarpMasksArgs& args) { cpu::warp_masks(args, torch_threads()); }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) { define_augment_ops(m); }

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) { AugmentOps<Cpu>::implement(m); }

}  // namespace strop
