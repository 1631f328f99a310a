#include "python/augment.h"

#include "cpu/augment.h"
#include "python/augment_binding.h"
#include "reference/augment.h"

namespace py = pybind11;

namespace strop {
namespace {

// What runs: the kernels, or the oracle.
struct Kernels {
  static void run(const AugmentArgs& args) { cpu::augment_images(args, Parallel{}); }
  static void run(const AugmentGradientArgs& args) { cpu::augment_gradient(args, Parallel{}); }
  static void run(const WarpMasksArgs& args) { cpu::warp_masks(args, Parallel{}); }
};
struct Loops {
  static void run(const AugmentArgs& args) { reference::augment_images(args); }
  static void run(const AugmentGradientArgs& args) { reference::augment_gradient(args); }
  static void run(const WarpMasksArgs& args) { reference::warp_masks(args); }
};

}  // namespace

void bind_augment(py::module_& cpu, py::module_& reference) {
  bind_augment_ops<Kernels>(cpu, "on the instruction set in force, in this thread");
  bind_augment_ops<Loops>(reference, "by the reference loop");
}

}  // namespace strop
