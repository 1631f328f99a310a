#pragma once

// CUDA's language and runtime as a host compiler takes them, for the files of csrc/*/cuda: stands
// before NVIDIA's header of this name, whose types it uses. What a kernel may call is here or in
// the headers beside this one; anything else does not compile, and is added when a kernel needs it.

// The standard library's own attributes are spelled like some of CUDA's macros: its headers first.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_host/kernel_side.h"

#undef __shared__
#undef __global__
#undef __device__
#undef __host__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
// One object for all blocks, which run one after the other. Kept even where nothing writes to it,
// which the compiler would fold into zeros; never initialised at run time, which would need a
// guard.
#ifdef __clang__  // takes no object without an initialiser for constant
#define __shared__ static __attribute__((used))
#else
#define __shared__ static constinit __attribute__((used))
#endif

// Constant to a thread, which is all that a kernel knows.
extern const uint3 threadIdx asm("strop_cuda_host_thread_index");
extern const uint3 blockIdx asm("strop_cuda_host_block_index");
extern const uint3 blockDim asm("strop_cuda_host_block_shape");
extern const uint3 gridDim asm("strop_cuda_host_grid_shape");

// ---- barriers, shuffles, votes ----------------------------------------------------------------

// Where a call is written, as its last arguments.
#define STROP_HERE const char *file = __builtin_FILE(), unsigned line = __builtin_LINE()

inline void __syncthreads(STROP_HERE) { strop::cuda_host::barrier({file, line}); }

inline void __syncwarp(unsigned mask = 0xffffffffu, STROP_HERE) {
  strop::cuda_host::together({strop::cuda_host::Collective::kSync, mask, 0, 32, {file, line}}, 0);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, STROP_HERE) {
  return static_cast<unsigned>(strop::cuda_host::together(
      {strop::cuda_host::Collective::kBallot, mask, 0, 32, {file, line}}, predicate != 0));
}

template <class T>
T strop_shuffle(const strop::cuda_host::CollectiveCall& call, T value) {
  static_assert(std::is_arithmetic_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = strop::cuda_host::together(call, bits);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, STROP_HERE) {
  constexpr auto kWhat = strop::cuda_host::Collective::kShuffleIndex;
  return strop_shuffle({kWhat, mask, lane, width, {file, line}}, value);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int distance, int width = 32, STROP_HERE) {
  constexpr auto kWhat = strop::cuda_host::Collective::kShuffleUp;
  return strop_shuffle({kWhat, mask, distance, width, {file, line}}, value);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int distance, int width = 32, STROP_HERE) {
  constexpr auto kWhat = strop::cuda_host::Collective::kShuffleDown;
  return strop_shuffle({kWhat, mask, distance, width, {file, line}}, value);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int pattern, int width = 32, STROP_HERE) {
  constexpr auto kWhat = strop::cuda_host::Collective::kShuffleXor;
  return strop_shuffle({kWhat, mask, pattern, width, {file, line}}, value);
}

// ---- atomics ----------------------------------------------------------------------------------

template <class T>
STROP_UNCHECKED T strop_loaded(const T* at) {
  return *at;
}
template <class T>
STROP_UNCHECKED void strop_stored(T* at, T value) {
  *at = value;
}

// Replaces *at by change(*at); the value before. One thread runs at a time, so that this is enough.
template <class T, class Change>
__forceinline__ T strop_atomic(T* at, Change change) {
  strop::cuda_host::atomic(at, sizeof(T));
  const T before = strop_loaded(at);
  strop_stored(at, change(before));
  return before;
}
template <class T>
__forceinline__ T atomicAdd(T* at, T value) {
  return strop_atomic(at, [value](T before) { return static_cast<T>(before + value); });
}
template <class T>
__forceinline__ T atomicMax(T* at, T value) {
  return strop_atomic(at, [value](T before) { return before > value ? before : value; });
}
template <class T>
__forceinline__ T atomicMin(T* at, T value) {
  return strop_atomic(at, [value](T before) { return before < value ? before : value; });
}
template <class T>
__forceinline__ T atomicOr(T* at, T value) {
  return strop_atomic(at, [value](T before) { return before | value; });
}

// ---- arithmetic -------------------------------------------------------------------------------

template <class To, class From>
To strop_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
inline int __float_as_int(float v) { return strop_bits<int>(v); }
inline float __int_as_float(int v) { return strop_bits<float>(v); }
inline long long __double_as_longlong(double v) { return strop_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return strop_bits<double>(v); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide{a} * b >> 64);
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const std::uint64_t bytes = std::uint64_t{high} << 32 | low;
  unsigned chosen = 0;
  for (int i = 0; i < 4; ++i) {
    chosen |= static_cast<unsigned>(bytes >> (8 * (selector >> (4 * i) & 7)) & 0xff) << (8 * i);
  }
  return chosen;
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }

// ---- the runtime ------------------------------------------------------------------------------

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute what, int value) {
  if (what != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  const bool allowed = strop::cuda_host::allow_shared(reinterpret_cast<const void*>(kernel), value);
  return allowed ? cudaSuccess : cudaErrorInvalidValue;
}

// A launch as a thread sees it: every thread has parameters of its own, as it has registers.
template <class... Parameters>
class StropLaunch {
 public:
  template <class... Arguments>
  explicit StropLaunch(void (*kernel)(Parameters...), Arguments&&... arguments)
      : kernel_(kernel), parameters_(std::forward<Arguments>(arguments)...) {}

  static void run(const void* self) {
    call(*static_cast<const StropLaunch*>(self), std::index_sequence_for<Parameters...>());
  }

 private:
  template <std::size_t... kIndex>
  STROP_UNCHECKED static void call(const StropLaunch& self, std::index_sequence<kIndex...>) {
    self.kernel_(std::get<kIndex>(self.parameters_)...);
  }

  void (*kernel_)(Parameters...);
  std::tuple<std::remove_const_t<Parameters>...> parameters_;
};

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const StropLaunch<Parameters...> launch(kernel, std::forward<Arguments>(arguments)...);
  const dim3& grid = config->gridDim;
  const dim3& block = config->blockDim;
  return strop::cuda_host::run({{grid.x, grid.y, grid.z},
                                {block.x, block.y, block.z},
                                config->dynamicSmemBytes,
                                reinterpret_cast<const void*>(kernel),
                                &StropLaunch<Parameters...>::run,
                                &launch})
             ? cudaSuccess
             : cudaErrorInvalidConfiguration;
}
