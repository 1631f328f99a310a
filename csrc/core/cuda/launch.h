#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace strop {

// Where kernels run, and how much of the GPU they may fill. No result depends on the latter: tests
// vary it.
struct Launch {
  cudaStream_t stream = nullptr;
  int multiprocessors = 1;
  // Of 256 threads, for every multiprocessor. More than are there at a time: the GPU shares them
  // out better than an equal number of rounds each would (98 % of a copy's speed, with 8 of them 91
  // %).
  int blocks_each = 64;
};

}  // namespace strop

namespace strop::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("strop: ") + what + ": " + cudaGetErrorString(status));
}

// Blocks of a launch.
struct BlockShape {
  int threads;
  int shared = 0;  // bytes of dynamic shared memory
};

// Launches a kernel in which every warp goes on to further work until `wanted` blocks' worth of it
// is done.
template <class... Parameters>
void launch(const Launch& on, void (*kernel)(Parameters...), std::int64_t wanted, BlockShape block,
            const Parameters&... arguments) {
  constexpr int kUnasked = 48 << 10;  // what a kernel may have without having asked
  const auto [threads, shared] = block;
  if (shared > kUnasked) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
          "shared memory");
  }
  const int each = on.blocks_each * 256 / threads;
  const std::int64_t most = std::int64_t{on.multiprocessors} * (each > 0 ? each : 1);
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(wanted < most ? wanted : most));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared);
  config.stream = on.stream;
  check(cudaLaunchKernelEx(&config, kernel, arguments...), "kernel launch");
}

template <class... Parameters>
void launch(const Launch& on, void (*kernel)(Parameters...), std::int64_t wanted, int threads,
            const Parameters&... arguments) {
  launch(on, kernel, wanted, BlockShape{threads}, arguments...);
}

}  // namespace strop::cuda
