// The functions of NVIDIA's runtime library that kernels' host code calls.

#include <cuda_runtime_api.h>

#include "cuda_host/kernel_side.h"

extern "C" {

__attribute__((visibility("hidden"))) const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorInvalidConfiguration ? "invalid configuration argument"
                                                 : "invalid argument";
}

__attribute__((visibility("hidden"))) cudaError_t cudaMemsetAsync(void* to, int value,
                                                                  std::size_t bytes, cudaStream_t) {
  strop::cuda_host::fill(to, value, bytes);
  return cudaSuccess;
}

}  // extern "C"
