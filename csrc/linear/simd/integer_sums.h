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

// What turns a group's sums of integers into floats, the same for all rows of x. `x_sums` are the
// task's where the sums are of codes that have zero points, else nullptr.
class GroupNumbers {
 public:
  STROP_MEMBER GroupNumbers(const PanelBlock& block, std::int64_t group, const std::int32_t* x_sums)
      : block_(block), x_sums_(x_sums), group_(group) {
    const CodesHeader& header = block.header;
    for (int i = 0; i < kRowVectors; ++i) {
      const auto integers = [&](std::int64_t place) {
        return load_unaligned<I32>(block.numbers<std::int32_t>(place, group) + i * kLanes);
      };
      scale_[i] = load_unaligned<F32>(block.numbers<float>(header.scales, group) + i * kLanes);
      sums_[i] = integers(header.sums);
      if (header.zeros != 0) zero_[i] = integers(header.zeros);
    }
  }

  // The sums of one row over the whole group, to `floats`. What both zero points add to each
  // product is taken out of them.
  STROP_MEMBER void finish(std::int64_t row, const I32 (&sum)[kRowVectors]) const {
    const CodesHeader& header = block_.header;
    const CodesTask& task = block_.task;
    const std::int64_t x_row = block_.row + row, part = group_ % header.parts;
    const std::int32_t x_zero = task.x_zero[x_row];
    float* const to = block_.floats + row * kPanelRows;
    for (int i = 0; i < kRowVectors; ++i) {
      I32 v = sum[i];
      if (x_zero != 0) v -= broadcast(x_zero) * sums_[i];
      if (x_sums_ != nullptr) {
        const std::int32_t x_sum = x_sums_[x_row * header.groups + group_];
        v -= header.zeros != 0 ? broadcast(x_sum) * zero_[i]
                               : broadcast(x_sum * static_cast<std::int32_t>(header.same_zero));
      }
      F32 f = __builtin_convertvector(v, F32);
      if (header.parts > 1) {
        f = with_parts(block_.wide + row * kPanelRows + i * kLanes, v, part == 0);
      }
      if (part + 1 < header.parts) continue;
      F32 all = header.groups == header.parts ? f * (broadcast(task.x_scale[x_row]) * scale_[i])
                                              : f * scale_[i];
      if (group_ >= header.parts) all = load_unaligned<F32>(to + i * kLanes) + all;
      store_unaligned(to + i * kLanes, all);
    }
  }

 private:
  const PanelBlock& block_;
  const std::int32_t* x_sums_;
  std::int64_t group_;
  F32 scale_[kRowVectors];
  I32 sums_[kRowVectors];
  I32 zero_[kRowVectors] = {};
};

// The sums of rows from `row` on over a segment: kept until the group is over.
template <int kRows>
STROP_INLINE void add_segment(const PanelBlock& block, std::int64_t row, const Segment& segment,
                              I32 (&sum)[kRows][kRowVectors]) {
  for (int r = 0; r < kRows; ++r) {
    std::int32_t* const kept = block.integers + (row + r) * kPanelRows;
    for (int i = 0; i < kRowVectors; ++i) {
      if (!segment.starts) sum[r][i] += load_unaligned<I32>(kept + i * kLanes);
      if (!segment.ends) store_unaligned(kept + i * kLanes, sum[r][i]);
    }
  }
  if (!segment.ends) return;
  const GroupNumbers numbers(block, segment.group, block.task.x_sums);
  for (int r = 0; r < kRows; ++r) numbers.finish(row + r, sum[r]);
}

}  // namespace strop::linear::simd::STROP_ISA
