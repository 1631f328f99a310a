#include "torch/quantize_codes_ops.h"
#include "torch/quantize_schemas.h"

namespace strop {
namespace {

// Note [Ops without data]
// The library strop_shapes has the ops once more, for tensors without data: they check what they
// are given as those of strop do, in the same words, and give results of the right shapes. The
// fakes of strop's ops go through them where every size is known (python/strop/_core/fake.py).
struct Shapes {
  explicit Shapes(const Tensor&) {}
  void fake_quantize(const FakeQuantizeArgs&) {}
  void clear(void*, std::size_t) {}
  void masked_gradient(const MaskedGradientArgs&) {}
  void learned_gradient(const LearnedGradientArgs&) {}
  void quantize(const QuantizeArgs&) {}
  void dequantize(const DequantizeArgs&) {}
  void pack(const BitRows&) {}
  void unpack(const BitRows&) {}
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop_shapes, m) { define_quantize_ops(m); }

STABLE_TORCH_LIBRARY_IMPL(strop_shapes, Meta, m) {
  QuantizeOps<Shapes>::implement(m);
  QuantizeCodeOps<Shapes>::implement(m);
}

}  // namespace strop
