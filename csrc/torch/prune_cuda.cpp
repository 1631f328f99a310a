#include "cuda/prune.h"
#include "torch/cuda_device.h"
#include "torch/prune_ops.h"

namespace strop {
namespace {

class Cuda {
 public:
  explicit Cuda(const Tensor& tensor) : device_(tensor), tensor_(tensor) {}

  void prune(const PruneArgs& args) {
    // From torch's allocator, which hands memory on in the order of the stream.
    const auto bytes = static_cast<std::int64_t>(cuda::prune_workspace(args));
    const Tensor workspace = empty_bytes(bytes, tensor_);
    cuda::prune(args, workspace.data_ptr(), device_.launch());
  }
  void soft_threshold(const SoftThresholdArgs& args) {
    cuda::soft_threshold(args, device_.launch());
  }
  void soft_threshold_gradient(const SoftThresholdArgs& args) {
    cuda::soft_threshold_gradient(args, device_.launch());
  }
  void pack_mask(const MaskRows& rows) { cuda::pack_mask(rows, device_.launch()); }
  void unpack_mask(const MaskRows& rows) { cuda::unpack_mask(rows, device_.launch()); }

 private:
  CudaDevice device_;
  Tensor tensor_;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(strop, CUDA, m) { PruneOps<Cuda>::implement(m); }

}  // namespace strop
