#include "cpu/quantize.h"

#include <cstring>

#include "cpu/quantize_codes.h"
#include "cpu/quantize_gradient.h"
#include "torch/quantize_codes_ops.h"
#include "torch/quantize_schemas.h"

namespace strop {
namespace {

struct Cpu {
  explicit Cpu(const Tensor&) {}
  void fake_quantize(const FakeQuantizeArgs& args) { cpu::fake_quantize(args, torch_threads()); }
  void clear(void* bytes, std::size_t count) { std::memset(bytes, 0, count); }
  void masked_gradient(const MaskedGradientArgs& args) {
    cpu::masked_gradient(args, torch_threads());
  }
  void learned_gradient(const LearnedGradientArgs& args) {
    cpu::learned_gradient(args, torch_threads());
  }
  void quantize(const QuantizeArgs& args) { cpu::quantize(args, torch_threads()); }
  void dequantize(const DequantizeArgs& args) { cpu::dequantize(args, torch_threads()); }
  void pack(const BitRows& rows) { cpu::pack_bits(rows, torch_threads()); }
  void unpack(const BitRows& rows) { cpu::unpack_bits(rows, torch_threads()); }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) { define_quantize_ops(m); }

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) {
  QuantizeOps<Cpu>::implement(m);
  QuantizeCodeOps<Cpu>::implement(m);
}

}  // namespace strop
