#pragma once

#include "linear/codes.h"

namespace strop::linear {

// Note [Products of codes on a CPU]
// Rows of x are quantized first, each code where the weight's is along a panel. An item of work is
// a block of rows of x times a few panels. A stretch of a panel's columns stays in the first cache
// while tiles of rows pass by, where there are so many rows that decoding it once pays; for few
// rows codes are decoded in registers, and read once.
inline constexpr std::int64_t kCodesRowBlock = 128;  // of x, whose codes stay in the second cache
inline constexpr std::int64_t kDecodedColumns = 512;
inline constexpr std::int64_t kColumnsInCache = 1024;  // as bytes

inline constexpr std::int64_t kValueColumns = 256;  // of two panels, in 16 bits

// Bytes that a thread works in: sums of a block of rows, in three types, for one panel or two; a
// decoded stretch; what a mask's codes are spread over; and sums of a group, of 16 rows by two
// panels, twice.
inline constexpr std::int64_t kGroupSums = 2 * 16 * kPanelRows;
inline constexpr std::int64_t kCodesScratch =
    kPanelRows * (2 * kCodesRowBlock * (4 + 4 + 8) + kDecodedColumns * 2 + kValueColumns * 2 * 2) +
    2 * kGroupSums * 4;

struct CodesTask {
  CodedLinearArgs args;
  void* x;  // [rows][places]: codes, in the set's type and less its offset; or floats, or bfloat16
  float* x_scale;        // [rows]
  std::int32_t* x_zero;  // [rows], less that offset
  std::int32_t* x_sums;  // [rows][groups], of the codes; nullptr: no zero point of the weight
  bool* x_finite;        // [rows], of float x

  std::int64_t row_blocks() const { return (args.rows + kCodesRowBlock - 1) / kCodesRowBlock; }
};

}  // namespace strop::linear
