// Masks of a bit an element, on a GPU.

#include "core/cuda/divider.cuh"
#include "core/cuda/launch.h"
#include "prune/pack_mask.h"

namespace strop::prune::cuda {
using namespace strop::cuda;
namespace {

constexpr int kThreads = 256;

// A thread has a byte of bits. `whole`: eight bytes of a mask may be moved at a time.
template <bool kPack>
__global__ void __launch_bounds__(kThreads)
    mask_kernel(const __grid_constant__ MaskRows rows, const __grid_constant__ Divider row_bytes,
                bool whole) {
  const auto* const from = static_cast<const std::uint8_t*>(rows.from);
  auto* const to = static_cast<std::uint8_t*>(rows.to);
  const std::int64_t all = rows.rows * row_bytes.divisor();
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < all; i += step) {
    const std::int64_t row = row_bytes.quotient(i);
    const std::int64_t first = (i - row * row_bytes.divisor()) * 8;
    const std::int64_t at = row * rows.count + first, left = rows.count - first;
    const int count = left < 8 ? static_cast<int>(left) : 8;
    if constexpr (kPack) {
      std::uint64_t bytes = 0;
      if (whole) {
        bytes = *reinterpret_cast<const std::uint64_t*>(from + at);
      } else {
        for (int j = 0; j < count; ++j) bytes |= std::uint64_t{from[at + j]} << (8 * j);
      }
      to[i] = packed_byte(bytes);
    } else {
      const std::uint64_t bytes = unpacked_byte(from[i]);
      if (whole) {
        *reinterpret_cast<std::uint64_t*>(to + at) = bytes;
      } else {
        for (int j = 0; j < count; ++j) to[at + j] = static_cast<std::uint8_t>(bytes >> (8 * j));
      }
    }
  }
}

template <bool kPack>
void run_mask(const MaskRows& rows, const Launch& on) {
  if (rows.rows * rows.count == 0) return;
  const auto mask = reinterpret_cast<std::uintptr_t>(kPack ? rows.from : rows.to);
  const bool whole = rows.count % 8 == 0 && mask % 8 == 0;
  launch(on, mask_kernel<kPack>, (rows.rows * rows.bytes() + kThreads - 1) / kThreads, kThreads,
         rows, Divider(rows.bytes()), whole);
}

}  // namespace
}  // namespace strop::prune::cuda

namespace strop::prune {

void run(const PackMaskArgs& rows, const Launch& on) { cuda::run_mask<true>(rows, on); }
void run(const UnpackMaskArgs& rows, const Launch& on) { cuda::run_mask<false>(rows, on); }

}  // namespace strop::prune
