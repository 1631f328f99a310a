#pragma once

// A thread's pixels, from memory and to it.

#include "augment/cuda/images.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;

// How kPixels neighbours of a row lie: those of a channel in one vector, all channels of them in as
// many vectors as there are channels, or each element where strides tell.
enum class Pixels { kApart, kPlanes, kTogether };

inline Pixels layout_of(const void* data, int item, const ImageStrides& strides,
                        std::int64_t channels) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(data) % (item * kPixels) == 0;
  if (!aligned || strides.row % kPixels != 0 || strides.image % kPixels != 0) {
    return Pixels::kApart;
  }
  if (strides.column == 1 && (channels == 1 || strides.channel % kPixels == 0)) {
    return Pixels::kPlanes;
  }
  const bool together = strides.channel == 1 && strides.column == channels;
  return together ? Pixels::kTogether : Pixels::kApart;
}

// Calls function.operator()<kChannels>() for 1, 3 or 4 of them.
template <class Function>
void by_channels(std::int64_t channels, Function function) {
  if (channels == 1) return function.template operator()<1>();
  if (channels == 3) return function.template operator()<3>();
  return function.template operator()<4>();
}

// A pixel as a warp that reads it alone samples it: bytes in multiples of 1 / kMixedOne.
template <class T>
__device__ __forceinline__ float sample_of(T value) {
  if constexpr (std::is_same_v<T, std::uint8_t>) {
    return static_cast<float>(kMixedOne * value);
  } else {
    return widened(value);
  }
}

template <class T>
__device__ __forceinline__ Vector<T, kPixels> packed(const float (&values)[kPixels]) {
  Vector<T, kPixels> result = {};
  if constexpr (std::is_same_v<T, std::uint8_t>) {
#pragma unroll
    for (int k = 0; k < kPixels; ++k) result.fill(k, byte_of(values[k]));
  } else {
    narrow<T, kPixels>(values, result);
  }
  return result;
}

template <int kChannels>
using PixelValues = float[kChannels][kPixels];

template <int kChannels, class T>
__device__ __forceinline__ void load_pixels(const T* from, const ImageStrides& strides, Pixels how,
                                            int count, PixelValues<kChannels>& values) {
  using Four = Vector<T, kPixels>;
  if (how == Pixels::kApart || count < kPixels) {
#pragma unroll
    for (int i = 0; i < kChannels * kPixels; ++i) {
      const int c = i / kPixels, k = i % kPixels;
      const std::int64_t at = c * strides.channel + (k < count ? k : 0) * strides.column;
      values[c][k] = sample_of(from[at]);
    }
    return;
  }
  Four held[kChannels];
  const bool planes = how == Pixels::kPlanes;
#pragma unroll
  for (int i = 0; i < kChannels; ++i) {
    held[i] = *reinterpret_cast<const Four*>(from + i * (planes ? strides.channel : kPixels));
  }
#pragma unroll
  for (int i = 0; i < kChannels * kPixels; ++i) {
    const float value = sample_of(held[i / kPixels].lane(i % kPixels));
    if (planes) {
      values[i / kPixels][i % kPixels] = value;
    } else {
      values[i % kChannels][i / kChannels] = value;
    }
  }
}

template <int kChannels, class T>
__device__ __forceinline__ void store_pixels(T* to, const ImageStrides& strides, Pixels how,
                                             int count, const PixelValues<kChannels>& values) {
  using Four = Vector<T, kPixels>;
  if (how == Pixels::kTogether && count == kPixels) {
#pragma unroll
    for (int i = 0; i < kChannels; ++i) {
      float four[kPixels];
#pragma unroll
      for (int k = 0; k < kPixels; ++k) {
        const int element = i * kPixels + k;
        four[k] = values[element % kChannels][element / kChannels];
      }
      reinterpret_cast<Four*>(to)[i] = packed<T>(four);
    }
    return;
  }
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    const Four four = packed<T>(values[c]);
    if (how == Pixels::kPlanes && count == kPixels) {
      *reinterpret_cast<Four*>(to + c * strides.channel) = four;
      continue;
    }
#pragma unroll
    for (int k = 0; k < kPixels; ++k) {
      if (k < count) to[c * strides.channel + k * strides.column] = four.lane(k);
    }
  }
}

}  // namespace strop::augment::cuda
