#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "core/cuda/launch.h"

namespace strop {

// Makes a tensor's GPU the current one, and launches on torch's current stream there.
class CudaDevice {
 public:
  explicit CudaDevice(const torch::stable::Tensor& tensor);

  const Launch& launch() const { return launch_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  Launch launch_;
};

}  // namespace strop
