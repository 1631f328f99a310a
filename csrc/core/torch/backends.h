#pragma once

#include <cstring>

#include "core/execution.h"
#include "core/torch/tensor_arguments.h"
#if defined(STROP_ON_CUDA)
#include "core/torch/cuda_device.h"
#endif

namespace strop {

// A backend is made for a tensor, makes its device the current one while it lives, and calls the
// run() of an argument struct there.

struct Cpu {
  explicit Cpu(const torch::stable::Tensor&) {}

  template <class Args>
  void operator()(const Args& args) const {
    run(args, ExecutionOptions{.parallel = torch_threads()});
  }
  void clear(void* bytes, std::int64_t count) const {
    std::memset(bytes, 0, static_cast<std::size_t>(count));
  }
  std::int64_t read(const std::int64_t* number) const { return *number; }
};

// Note [Ops without data]
// The library strop_shapes has the ops once more, for tensors without data: they check what they
// are given as those of strop do, in the same words, and give results of the right shapes. The
// fakes of strop's ops go through them where every size is known (python/strop/_core/fake.py).
struct NoData {
  explicit NoData(const torch::stable::Tensor&) {}

  template <class Args>
  void operator()(const Args&) const {}
  void clear(void*, std::int64_t) const {}
};

#if defined(STROP_ON_CUDA)
class Cuda {
 public:
  explicit Cuda(const torch::stable::Tensor& tensor) : device_(tensor), tensor_(tensor) {}

  template <class Args>
  void operator()(const Args& args) const {
    const Launch& on = device_.launch();
    if constexpr (requires { workspace_bytes(args, on); }) {
      // From torch's allocator, which hands memory on in the order of the stream: it may be given
      // back before the kernels have run.
      const auto bytes = static_cast<std::int64_t>(workspace_bytes(args, on));
      run(args, empty_bytes(bytes, tensor_).data_ptr(), on);
    } else {
      run(args, on);
    }
  }
  void clear(void* bytes, std::int64_t count) const {
    if (count == 0) return;
    const auto size = static_cast<std::size_t>(count);
    cuda::check(cudaMemsetAsync(bytes, 0, size, device_.launch().stream), "clear");
  }
  // Waits for the kernels before.
  std::int64_t read(const std::int64_t* number) const {
    const cudaStream_t stream = device_.launch().stream;
    std::int64_t found = 0;
    cuda::check(cudaMemcpyAsync(&found, number, sizeof found, cudaMemcpyDeviceToHost, stream),
                "read");
    cuda::check(cudaStreamSynchronize(stream), "read");
    return found;
  }

 private:
  CudaDevice device_;
  torch::stable::Tensor tensor_;
};
#endif

}  // namespace strop
