#pragma once

// Masks of a bit an element.

#include "core/cuda/vector.cuh"

namespace strop::cuda {

// Puts a warp's bits into the mask: a word at a time where neighbouring lanes have all its bits,
// else bit by bit.
template <int kVector>
__device__ __forceinline__ void write_mask(std::uint8_t* mask, std::int64_t at, std::int64_t step,
                                           unsigned bits, int count) {
  constexpr int kLanes = kWarp / kVector;  // that a word's bits come from
  const int place = lane_id() % kLanes;
  unsigned word = bits << (place * kVector % 32);
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    word |= __shfl_xor_sync(kAllLanes, word, offset);
  }
  const std::int64_t first = __shfl_sync(kAllLanes, at, lane_id() - place);
  const bool in_line = count == kVector && first % 32 == 0 && at == first + place * kVector;
  const unsigned lanes = (kLanes == kWarp ? kAllLanes : (1u << kLanes % 32) - 1)
                         << (lane_id() - place);
  const unsigned agree = __ballot_sync(kAllLanes, in_line);
  auto* const words = reinterpret_cast<unsigned*>(mask);
  if ((agree & lanes) == lanes) {
    if (place == 0) words[first / 32] = word;
    return;
  }
  for (int i = 0; i < kVector; ++i) {
    const std::int64_t bit = at + i * step;
    if (bits >> i & 1) atomicOr(words + bit / 32, 1u << bit % 32);
  }
}

}  // namespace strop::cuda
