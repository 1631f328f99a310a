#pragma once

#include <cstdint>
#include <utility>

#include "core/simd/vector.h"

// Channels side by side, and apart: stretches of 16 bytes, by shuffles of two at a time.

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

template <int kBytes>
struct Lane;
template <>
struct Lane<1> {
  using Element = std::uint8_t;
};
template <>
struct Lane<2> {
  using Element = std::uint16_t;
};
template <>
struct Lane<4> {
  using Element = std::uint32_t;
};
template <>
struct Lane<8> {
  using Element = std::uint64_t;
};

// 16 bytes of elements as wide as a T.
template <class T>
struct Sixteen {
  using Element = typename Lane<sizeof(T)>::Element;
  typedef Element V __attribute__((vector_size(16)));
  static constexpr int kCount = 16 / sizeof(T);
  using Indices = std::make_integer_sequence<int, kCount>;
};

// Vector number kPart of r0 g0 b0 r1 g1 b1 ...: element e of them is channel e % 3 of pixel e / 3.
template <int kPart, class V, int... kLane>
STROP_INLINE V interleaved(V r, V g, V b, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  const V red_green = __builtin_shufflevector(
      r, g, ((kPart * kCount + kLane) / 3 + ((kPart * kCount + kLane) % 3 == 1 ? kCount : 0))...);
  return __builtin_shufflevector(
      red_green, b,
      ((kPart * kCount + kLane) % 3 == 2 ? kCount + (kPart * kCount + kLane) / 3 : kLane)...);
}

template <bool kStream, class V>
STROP_INLINE void store_sixteen(void* to, V v) {
  if constexpr (kStream) {
    stream(to, bit_cast<B16>(v));
  } else {
    store_unaligned(to, v);
  }
}

template <class T>
STROP_INLINE void interleave_singly(const T* const (&rows)[4], T* to, int begin, int end) {
  for (int i = begin; i < end; ++i) {
    for (int c = 0; c < 3; ++c) to[3 * i + c] = rows[c][i];
  }
}

template <bool kStream, class T>
STROP_INLINE void interleave_vectors(const T* const (&rows)[4], T* to, int i, int count) {
  using S = Sixteen<T>;
  using V = typename S::V;
  for (; i + S::kCount <= count; i += S::kCount) {
    const V r = load_unaligned<V>(rows[0] + i), g = load_unaligned<V>(rows[1] + i);
    const V b = load_unaligned<V>(rows[2] + i);
    T* const at = to + 3 * i;
    store_sixteen<kStream>(at, interleaved<0>(r, g, b, typename S::Indices{}));
    store_sixteen<kStream>(at + S::kCount, interleaved<1>(r, g, b, typename S::Indices{}));
    store_sixteen<kStream>(at + 2 * S::kCount, interleaved<2>(r, g, b, typename S::Indices{}));
  }
  interleave_singly(rows, to, i, count);
}

template <class T>
STROP_INLINE void interleave_three(const T* const (&rows)[4], T* to, int count, bool stream) {
  int head = 0;
  const auto misaligned = [&] { return reinterpret_cast<std::uintptr_t>(to + 3 * head) % 16 != 0; };
  while (stream && head < count && head < 16 && misaligned()) ++head;
  if (!stream || misaligned()) return interleave_vectors<false>(rows, to, 0, count);
  interleave_singly(rows, to, 0, head);
  interleave_vectors<true>(rows, to, head, count);
}

template <class T>
STROP_INLINE void interleave_four(const T* const (&rows)[4], T* to, int count) {
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < 4; ++c) to[4 * i + c] = rows[c][i];
  }
}

// Elements 0, 3, 6, ... of three vectors.
template <class V, int... kLane>
STROP_INLINE V each_third(V a, V b, V c, std::integer_sequence<int, kLane...>) {
  constexpr int kCount = sizeof...(kLane);
  const V first = __builtin_shufflevector(a, b, (3 * kLane < 2 * kCount ? 3 * kLane : kLane)...);
  return __builtin_shufflevector(
      first, c, (3 * kLane < 2 * kCount ? kLane : kCount + 3 * kLane - 2 * kCount)...);
}

template <class T>
STROP_INLINE void copy_each_third(const T* from, int count, T* to) {
  using S = Sixteen<T>;
  using V = typename S::V;
  int i = 0;
  for (; i + S::kCount < count; i += S::kCount) {  // (reads two elements beyond the last)
    const T* const at = from + 3 * i;
    store_unaligned(to + i,
                    each_third(load_unaligned<V>(at), load_unaligned<V>(at + S::kCount),
                               load_unaligned<V>(at + 2 * S::kCount), typename S::Indices{}));
  }
  for (; i < count; ++i) to[i] = from[3 * i];
}

}  // namespace strop::augment::simd::STROP_ISA
