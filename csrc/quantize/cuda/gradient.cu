// The gradients of fake_quantize on a GPU.

#include "core/cuda/launch.h"
#include "core/cuda/vector.cuh"
#include "quantize/gradient.h"

namespace strop::quantize::cuda {
using namespace strop::cuda;
namespace {

constexpr int kThreads = 256;
constexpr int kHeld = 4;  // vectors that a thread has in flight

// Leaves the lanes whose bit is set, the others 0. T is an unsigned integer as wide as an element.
template <class T, int kVector>
__device__ __forceinline__ void keep(Vector<T, kVector>& x, unsigned bits) {
  if constexpr (Vector<T, kVector>::kPaired) {
    for (int i = 0; i < kVector; i += 2) {
      x.word[i / 2] &= (bits >> i & 1) * 0xffffu | (bits >> (i + 1) & 1) * 0xffff0000u;
    }
  } else {
    for (int i = 0; i < kVector; ++i) x.word[i] = (bits >> i & 1) != 0 ? x.word[i] : T{0};
  }
}

template <class T, int kVector>
__global__ void __launch_bounds__(kThreads)
    masked_kernel(const __grid_constant__ MaskedGradientArgs args, std::int64_t vectors) {
  const auto* const from = static_cast<const T*>(args.gradient);
  auto* const to = static_cast<T*>(args.output);
  const auto* const words = reinterpret_cast<const unsigned*>(args.mask);
  constexpr std::int64_t kStretch = kHeld * kThreads;
  for (std::int64_t first = blockIdx.x * kStretch + threadIdx.x; first < vectors;
       first += gridDim.x * kStretch) {
    Vector<T, kVector> held[kHeld] = {};
    unsigned bits[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const std::int64_t at = (first + i * kThreads) * kVector;
      if (first + i * kThreads >= vectors) break;
      bits[i] = words[at / 32] >> at % 32;
      if (at + kVector <= args.count) {
        held[i] = *reinterpret_cast<const Vector<T, kVector>*>(from + at);
        continue;
      }
      for (int lane = 0; lane < kVector; ++lane) {
        if (at + lane < args.count) held[i].fill(lane, from[at + lane]);
      }
    }
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const std::int64_t at = (first + i * kThreads) * kVector;
      if (first + i * kThreads >= vectors) break;
      keep(held[i], bits[i]);
      if (at + kVector <= args.count) {
        *reinterpret_cast<Vector<T, kVector>*>(to + at) = held[i];
        continue;
      }
      for (int lane = 0; lane < kVector; ++lane) {
        if (at + lane < args.count) to[at + lane] = held[i].lane(lane);
      }
    }
  }
}

template <class T>
void run_masked(const MaskedGradientArgs& args, const Launch& on) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  const auto aligned = [](const void* p) {
    return reinterpret_cast<std::uintptr_t>(p) % kVectorBytes == 0;
  };
  const bool vectors = aligned(args.gradient) && aligned(args.output);
  const std::int64_t lanes = vectors ? kVector : 1;
  const std::int64_t count = divide_up(args.count, lanes);
  const std::int64_t blocks = divide_up(count, kThreads * kHeld);
  launch(on, vectors ? masked_kernel<T, kVector> : masked_kernel<T, 1>, blocks, kThreads, args,
         count);
}

}  // namespace
}  // namespace strop::quantize::cuda

namespace strop::quantize {

void run(const MaskedGradientArgs& args, const Launch& on) {
  if (args.count == 0) return;
  if (args.item_bytes == 2) return cuda::run_masked<std::uint16_t>(args, on);
  if (args.item_bytes == 4) return cuda::run_masked<std::uint32_t>(args, on);
  cuda::run_masked<std::uint64_t>(args, on);
}

}  // namespace strop::quantize
