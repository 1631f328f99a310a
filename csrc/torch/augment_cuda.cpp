#include "cuda/augment.h"
#include "torch/augment_ops.h"
#include "torch/cuda_device.h"

namespace strop {
namespace {

class Cuda {
 public:
  explicit Cuda(const Tensor& tensor) : device_(tensor) {}

  void augment_images(const AugmentArgs& args) { cuda::augment_images(args, device_.launch()); }
  void augment_gradient(const AugmentGradientArgs& args) {
    cuda::augment_gradient(args, device_.launch());
  }
  void warp_masks(const WarpMasksArgs& args) { cuda::warp_masks(args, device_.launch()); }

 private:
  CudaDevice device_;
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(strop, CUDA, m) { AugmentOps<Cuda>::implement(m); }

}  // namespace strop
