#include <torch/csrc/stable/accelerator.h>

#include "cuda/quantize.h"
#include "cuda/quantize_codes.h"
#include "torch/cuda_device.h"
#include "torch/quantize_codes_ops.h"

namespace strop {
namespace {

class Cuda {
 public:
  explicit Cuda(const Tensor& tensor) : device_(tensor), tensor_(tensor) {}

  void fake_quantize(const FakeQuantizeArgs& args) {
    const Tensor workspace = bytes(cuda::fake_quantize_workspace(args, device_.launch()));
    cuda::fake_quantize(args, workspace.data_ptr(), device_.launch());
  }
  void masked_gradient(const MaskedGradientArgs& args) {
    cuda::masked_gradient(args, device_.launch());
  }
  void learned_gradient(const LearnedGradientArgs& args) {
    const Tensor workspace = bytes(cuda::learned_gradient_workspace(args));
    cuda::learned_gradient(args, workspace.data_ptr(), device_.launch());
  }
  void quantize(const QuantizeArgs& args) {
    const Tensor workspace = bytes(cuda::quantize_workspace(args));
    cuda::quantize(args, workspace.data_ptr(), device_.launch());
  }
  void dequantize(const DequantizeArgs& args) { cuda::dequantize(args, device_.launch()); }
  void pack(const BitRows& rows) { cuda::pack_bits(rows, device_.launch()); }
  void unpack(const BitRows& rows) { cuda::unpack_bits(rows, device_.launch()); }
  void clear(void* to, std::size_t count) {
    if (count > 0) cuda::check(cudaMemsetAsync(to, 0, count, device_.launch().stream), "clear");
  }

 private:
  // From torch's allocator, which hands memory on in the order of the stream: it may be given back
  // before the kernels have run.
  Tensor bytes(std::size_t count) const {
    return empty_bytes(static_cast<std::int64_t>(count), tensor_);
  }

  CudaDevice device_;
  Tensor tensor_;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(strop, CUDA, m) {
  QuantizeOps<Cuda>::implement(m);
  QuantizeCodeOps<Cuda>::implement(m);
}

}  // namespace strop
