#pragma once

#include <type_traits>

#include "augment/images.h"
#include "core/simd/vector.h"

// The loop "finish": rows of samples, normalised, cast and stored. See Note [Warping on a CPU].

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// A sample of bytes that were mixed.
struct Mixed {
  std::int16_t units;
};

// What a value is divided by to be a share of white.
template <class In>
constexpr double unit_of() {
  return std::is_same_v<In, Mixed>          ? 255.0 * kMixedOne
         : std::is_same_v<In, std::uint8_t> ? 255.0
                                            : 1.0;
}

struct ScaleAndOffset {
  float scale;
  float offset;
};

template <class In, class Out>
STROP_INLINE ScaleAndOffset scale_and_offset(const Normalization& n, std::int64_t channel) {
  if constexpr (std::is_same_v<Out, std::uint8_t>) return {255.0f, -0.0f};
  const double std = n.std_of(channel);
  return {static_cast<float>(1 / (unit_of<In>() * std)),
          static_cast<float>(-n.mean_of(channel) / std)};
}

STROP_INLINE F32 values(const Mixed* from) {
  return __builtin_convertvector(from_words(from), F32);
}
STROP_INLINE F32 values(const std::uint8_t* from) {
  return __builtin_convertvector(from_bytes(from), F32);
}
template <class T>
STROP_INLINE F32 values(const T* from) {
  return load(from).v;
}

template <class In>
STROP_INLINE float value(const In* from) {
  if constexpr (std::is_same_v<In, Mixed>) {
    return static_cast<float>(from->units);
  } else if constexpr (std::is_same_v<In, std::uint8_t>) {
    return static_cast<float>(*from);
  } else {
    return to_float(*from);
  }
}

// Half to even; NaN is 0.
STROP_INLINE std::uint8_t byte_of(float levels) {
  if (!(levels > 0)) return 0;
  return levels >= 255 ? 255 : static_cast<std::uint8_t>(__builtin_nearbyintf(levels));
}
STROP_INLINE std::uint8_t byte_of(Mixed mixed) {
  const int level = mixed.units >> kMixedBits;
  return static_cast<std::uint8_t>((mixed.units + kMixedOne / 2 - 1 + (level & 1)) >> kMixedBits);
}

template <bool kStream, class In, class Out>
STROP_INLINE void finish_vectors(const In* from, Out* to, int count, ScaleAndOffset by) {
  const F32 scale = broadcast(by.scale), offset = broadcast(by.offset);
  int i = 0;
  if constexpr (std::is_same_v<In, Mixed> && std::is_same_v<Out, BFloat16>) {
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {  // even and odd words need no shuffle
      const I32 both = load_unaligned<I32>(from + i);
      const F32 even = __builtin_convertvector((both << 16) >> 16, F32);
      const F32 odd = __builtin_convertvector(both >> 16, F32);
      store_pair<kStream>(to + i,
                          {Vec::wrap(even * scale + offset), Vec::wrap(odd * scale + offset)});
    }
  }
  for (; i + kLanes <= count; i += kLanes) {
    store<kStream>(to + i, Vec::wrap(values(from + i) * scale + offset));
  }
  for (; i < count; ++i) {
    const float product = value(from + i) * by.scale;
    to[i] = FromFloat<Out>::call(product + by.offset);
  }
}

template <class In>
STROP_INLINE void finish_bytes(const In* from, std::uint8_t* to, int count) {
  int i = 0;
  if constexpr (std::is_same_v<In, std::uint8_t>) {
    std::memcpy(to, from, static_cast<std::size_t>(count));
  } else if constexpr (std::is_same_v<In, Mixed>) {
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
      const I16 units = load_unaligned<I16>(from + i);
      const I16 odd = (units >> kMixedBits) & broadcast(std::int16_t{1});
      const I16 half = broadcast(static_cast<std::int16_t>(kMixedOne / 2 - 1));
      store_bytes(to + i, (units + odd + half) >> kMixedBits);
    }
    for (; i < count; ++i) to[i] = byte_of(from[i]);
  } else {
    for (; i < count; ++i) to[i] = byte_of(value(from + i) * 255.0f);
  }
}

// A row of one channel, to consecutive elements.
template <class In, class Out>
STROP_INLINE void finish_row(const In* from, Out* to, int count, ScaleAndOffset by, bool stream) {
  if constexpr (std::is_same_v<Out, std::uint8_t>) {
    finish_bytes(from, to, count);
  } else if (stream) {
    const auto place = reinterpret_cast<std::uintptr_t>(to);
    const auto head = static_cast<int>((-place % kVectorBytes) / sizeof(Out));
    const int first = head < count ? head : count;
    finish_vectors<false>(from, to, first, by);
    finish_vectors<true>(from + first, to + first, count - first, by);
  } else {
    finish_vectors<false>(from, to, count, by);
  }
}

}  // namespace strop::augment::simd::STROP_ISA
