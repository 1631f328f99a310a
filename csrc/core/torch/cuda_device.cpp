#include "core/torch/cuda_device.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace strop {

CudaDevice::CudaDevice(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  launch_.stream = static_cast<cudaStream_t>(stream);
  cuda::check(cudaDeviceGetAttribute(&launch_.multiprocessors, cudaDevAttrMultiProcessorCount,
                                     tensor.get_device_index()),
              "counting multiprocessors");
}

}  // namespace strop
