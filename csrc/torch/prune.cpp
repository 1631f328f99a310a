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

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) {
  const auto soft = [&](const char* name, const char* weight, const char* result) {
    m.def((std::string(name) + "(" + weight + ", " + kAmount + result).c_str());
  };
  m.def(
      "prune_mask(Tensor weight, float? threshold=None, float? sparsity=None, "
      "str pattern='unstructured', int[] block_size=[], str per='tensor', str norm='l1') -> "
      "Tensor");
  m.def(
      "prune_masks(Tensor[] weights, float? sparsity=None, str pattern='unstructured', "
      "int[] block_size=[], str norm='l1') -> Tensor[]");
  soft("soft_threshold", "Tensor weight", ") -> Tensor");
  soft("soft_threshold.out", "Tensor weight", ", *, Tensor(a!) out) -> ()");
  soft("soft_threshold_", "Tensor(a!) weight", ") -> ()");
  soft("_soft_threshold_gradient", "Tensor gradient, Tensor weight", ") -> Tensor");
  m.def("pack_mask(Tensor mask) -> Tensor");
  m.def("unpack_mask(Tensor bits, SymInt K) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) { PruneOps<Cpu>::implement(m); }

}  // namespace strop
