#pragma once

// What becomes of sums of integers: those of a group become floats. Compiled once per instruction
// set.

#include "linear/simd/panel_rows.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Sums in 64 bits: this part's are added to those before.
STROP_INLINE F32 with_parts(std::int64_t* sums, I32 sum, bool first) {
  F32 all;
  for (int lane = 0; lane < kLanes; ++lane) {
    sums[lane] = (first ? 0 : sums[lane]) + sum[lane];
    all[lane] = static_cast<float>(sums[lane]);
  }
  return all;
}

// The sums of one row over a whole group, to `floats`. What both zero points add to each product is
// taken out of them.
STROP_INLINE void finish_group(const PanelBlock& block, std::int64_t row, std::int64_t group,
                               const I32 (&sum)[kRowVectors]) {
  const CodesHeader& header = block.header;
  const std::int64_t x_row = block.row + row;
  const std::int32_t x_zero = block.task.x_zero[x_row];
  const float* const scale = block.numbers<float>(header.scales, group);
  float* const to = block.floats + row * kPanelRows;
  const std::int64_t part = group % header.parts;
  for (int i = 0; i < kRowVectors; ++i) {
    const auto integers = [&](std::int64_t place) {
      return load_unaligned<I32>(block.numbers<std::int32_t>(place, group) + i * kLanes);
    };
    I32 v = sum[i];
    if (x_zero != 0) v -= broadcast(x_zero) * integers(header.sums);
    if (block.task.x_sums != nullptr) {
      const I32 zero = header.zeros != 0 ? integers(header.zeros)
                                         : broadcast(static_cast<std::int32_t>(header.same_zero));
      v -= broadcast(block.task.x_sums[x_row * header.groups + group]) * zero;
    }
    F32 f = __builtin_convertvector(v, F32);
    if (header.parts > 1) f = with_parts(block.wide + row * kPanelRows + i * kLanes, v, part == 0);
    if (part + 1 < header.parts) continue;
    const F32 s = load_unaligned<F32>(scale + i * kLanes);
    F32 all =
        header.groups == header.parts ? f * (broadcast(block.task.x_scale[x_row]) * s) : f * s;
    if (group >= header.parts) all = load_unaligned<F32>(to + i * kLanes) + all;
    store_unaligned(to + i * kLanes, all);
  }
}

// One row's sums over a segment: kept until the group is over.
STROP_INLINE void add_segment(const PanelBlock& block, std::int64_t row, const Segment& segment,
                              I32 (&sum)[kRowVectors]) {
  std::int32_t* const kept = block.integers + row * kPanelRows;
  for (int i = 0; i < kRowVectors; ++i) {
    if (!segment.starts) sum[i] += load_unaligned<I32>(kept + i * kLanes);
    if (!segment.ends) store_unaligned(kept + i * kLanes, sum[i]);
  }
  if (segment.ends) finish_group(block, row, segment.group, sum);
}

}  // namespace strop::linear::simd::STROP_ISA
