#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace strop::cuda {

// Where kernels run, and how much of the GPU they may fill. No result depends on the latter: tests
// vary it.
struct Launch {
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  int blocks_each = 8;  // of a grid, for every multiprocessor
};

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("strop: ") + what + ": " + cudaGetErrorString(status));
}

// Launches a kernel in which every warp goes on to further work until `wanted` blocks' worth of it
// is done.
template <class... Parameters>
void launch(const Launch& on, void (*kernel)(Parameters...), std::int64_t wanted, int threads,
            const Parameters&... arguments) {
  const std::int64_t most = std::int64_t{on.multiprocessors} * on.blocks_each;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(wanted < most ? wanted : most));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = on.stream;
  check(cudaLaunchKernelEx(&config, kernel, arguments...), "kernel launch");
}

}  // namespace strop::cuda
