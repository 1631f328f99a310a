#include "cpu/prune.h"

#include "torch/prune_ops.h"

namespace strop {
namespace {

struct Cpu {
  explicit Cpu(const Tensor&) {}
  void prune(const PruneArgs& args) { cpu::prune(args, torch_threads()); }
  void soft_threshold(const SoftThresholdArgs& args) { cpu::soft_threshold(args, torch_threads()); }
  void soft_threshold_gradient(const SoftThresholdArgs& args) {
    cpu::soft_threshold_gradient(args, torch_threads());
  }
  void pack_mask(const MaskRows& rows) { cpu::pack_mask(rows, torch_threads()); }
  void unpack_mask(const MaskRows& rows) { cpu::unpack_mask(rows, torch_threads()); }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) { define_prune_ops(m); }

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) { PruneOps<Cpu>::implement(m); }

}  // namespace strop
