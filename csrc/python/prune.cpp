#include "python/prune.h"

#include "cpu/prune.h"
#include "python/prune_binding.h"
#include "reference/prune.h"

namespace py = pybind11;

namespace strop {
namespace {

// What runs: the kernels, or the oracle.
struct Kernels {
  static void run(const PruneArgs& args) { cpu::prune(args, Parallel{}); }
  static void run(const ShrinkArgs& args) { cpu::soft_threshold(args, Parallel{}); }
  static void run(const ShrinkGradientArgs& args) {
    cpu::soft_threshold_gradient(args, Parallel{});
  }
  static void run(const PackMaskArgs& rows) { cpu::pack_mask(rows, Parallel{}); }
  static void run(const UnpackMaskArgs& rows) { cpu::unpack_mask(rows, Parallel{}); }
};
struct Oracle {
  static void run(const PruneArgs& args) { reference::prune(args); }
  static void run(const ShrinkArgs& args) { reference::soft_threshold(args); }
  static void run(const ShrinkGradientArgs& args) { reference::soft_threshold_gradient(args); }
  static void run(const PackMaskArgs& rows) { reference::pack_mask(rows); }
  static void run(const UnpackMaskArgs& rows) { reference::unpack_mask(rows); }
};

}  // namespace

void bind_prune(py::module_& cpu, py::module_& reference) {
  bind_prune_ops<Kernels>(cpu, "on the instruction set in force, in this thread");
  bind_prune_ops<Oracle>(reference, "by the reference loop");
}

}  // namespace strop
