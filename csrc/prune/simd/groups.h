#pragma once

// n of every m neighbours, by rank. Compiled once per instruction set.

#include <utility>

#include "core/simd/vector.h"
#include "prune/prune_mask.h"

namespace strop::prune::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

STROP_INLINE U32 keys_of(Vec values) {
  const U32 bits = bit_cast<U32>(magnitude(values).v);
  return select(I32(bit_cast<I32>(bits) > broadcast(static_cast<std::int32_t>(kInfinityKey))),
                broadcast(kNanKey), bits);
}

// Whether each of a group's members stays: fewer than `keep` of the others are larger, or equal and
// later.
template <class T>
STROP_INLINE void keep_group(const T* from, int count, std::int64_t keep, std::uint8_t* mask) {
  for (int i = 0; i < count; ++i) {
    const std::uint32_t own = magnitude_key(to_float(from[i]));
    std::int64_t larger = 0;
    for (int j = 0; j < count; ++j) {
      const std::uint32_t other = magnitude_key(to_float(from[j]));
      larger += other > own || (other == own && j > i);
    }
    mask[i] = larger < keep;
  }
}

// Lane i has what lane (i + kSteps) % kGroup of its group had.
template <int kGroup, int kSteps, int... kLane>
STROP_INLINE I32 rotated(I32 v, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(v, v, (kLane / kGroup * kGroup + (kLane + kSteps) % kGroup)...);
}

// 1 where the lane that comes there by rotation was later in the group.
template <int kGroup, int kSteps, int... kLane>
STROP_INLINE I32 comes_later(std::integer_sequence<int, kLane...>) {
  return I32{(kLane % kGroup + kSteps < kGroup ? 1 : 0)...};
}

template <int kGroup, int... kStep>
STROP_INLINE I32 kept_lanes(I32 keys, std::int32_t keep, std::integer_sequence<int, kStep...>) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>();
  I32 larger{};  // a true lane is -1; equal and later is larger by one
  ((larger -=
    I32(rotated<kGroup, kStep + 1>(keys, kAll) + comes_later<kGroup, kStep + 1>(kAll) > keys)),
   ...);
  return I32(larger < broadcast(keep)) & broadcast(std::int32_t{1});
}

// Groups that lie within a vector: every member is compared with the others, turned past it.
template <int kGroup, class T>
STROP_INLINE std::int64_t keep_groups_of_lanes(const T* from, std::int64_t count, std::int64_t keep,
                                               std::uint8_t* mask) {
  constexpr auto kTurns = std::make_integer_sequence<int, kGroup - 1>();
  const auto kept = [&](const T* at) {
    const I32 keys = bit_cast<I32>(keys_of(load(at)));
    return kept_lanes<kGroup>(keys, static_cast<std::int32_t>(keep), kTurns);
  };
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    store_bytes(mask + i, words_of(kept(from + i), kept(from + i + kLanes)));
  }
  return i;
}

template <class T>
STROP_INLINE void keep_groups_of_row(const T* from, std::int64_t count, const PruneRule& rule,
                                     std::uint8_t* mask) {
  std::int64_t i = 0;
  if (rule.group == 2) i = keep_groups_of_lanes<2>(from, count, rule.keep, mask);
  if (rule.group == 4) i = keep_groups_of_lanes<4>(from, count, rule.keep, mask);
  if constexpr (kLanes >= 8) {
    if (rule.group == 8) i = keep_groups_of_lanes<8>(from, count, rule.keep, mask);
  }
  for (; i < count; i += rule.group) {
    const std::int64_t left = count - i;
    const std::int64_t here = left < rule.group ? left : rule.group;
    keep_group(from + i, static_cast<int>(here), rule.keep, mask + i);
  }
}

}  // namespace strop::prune::simd::STROP_ISA
