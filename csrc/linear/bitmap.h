#pragma once

#include <cstdint>

#include "linear/layout.h"

namespace strop::linear {

// Pruned weights as bits and values, packed from a dense weight and unpacked again, and multiplied
// with as they are: no layout is made of them. Where the values of each row begin is beside them,
// for rows are worked on side by side.
//
//   starts[r] = number of bits that are set in the rows before r,  0 <= r <= rows
//
// Whoever calls a kernel has seen to it that bits, starts and values fit each other; a kernel
// trusts them. Values are float32, bfloat16 or float16, and on a CPU float64; sums are float32. A
// GPU widens a weight and never rounds it: x is of the values' dtype or float32, and so is a dense
// weight that is made of them. On a CPU the dense weight is of the values' dtype.

inline constexpr std::int64_t kMaxBitmapRows = 16;  // of x, for which the bits are multiplied with

inline constexpr std::int64_t kMaxBitmapColumns = std::int64_t{1} << 32;

struct BitmapMatrix : MaskedMatrix {     // values are aligned to four bytes
  const std::int64_t* starts = nullptr;  // [rows + 1]
};

// Whether values of one dtype may be read as another.
constexpr bool widens(DType values, DType to) {
  return values != DType::kFloat64 && (to == values || to == DType::kFloat32);
}

// Of a contiguous weight: the bits of what is not zero. NaN is kept, zeros of both signs are not.
// (Those of a mask are pack_mask's.)
struct BitmapBitsArgs {
  DType dtype;
  const void* weight;
  std::int64_t rows;
  std::int64_t columns;
  std::uint8_t* bits;  // written

  constexpr std::int64_t row_bytes() const { return (columns + 7) / 8; }
};

struct BitmapStartsArgs {
  const std::uint8_t* bits;
  std::int64_t rows;
  std::int64_t row_bytes;
  std::int64_t* starts;  // written
};

// Of a contiguous weight: the values whose bit is set.
struct BitmapValuesArgs {
  DType dtype;
  const void* weight;
  std::int64_t rows;
  std::int64_t columns;
  const std::uint8_t* bits;
  const std::int64_t* starts;
  void* values;  // written

  constexpr std::int64_t row_bytes() const { return (columns + 7) / 8; }
};

// To a contiguous weight; what was pruned is +0.
struct BitmapUnpackArgs {
  BitmapMatrix matrix;
  DType dtype;  // of dense
  void* dense;
};

// y[m][n] = activation(sum_k x[m][k] w[n][k] + bias[n]). On a GPU for at most kMaxBitmapRows rows
// of x: a lane adds up the columns of its bytes from left to right, by FMAs, then the lanes are
// added in pairs, theirs in pairs, and so on; three rows and more of 16 bits are tensor cores'
// (Note [Tiles on a GPU]). On a CPU for any number: see Note [Rows of bits on a CPU]. The order of
// sums depends on the numbers of rows of x and of columns alone.
struct BitmapLinearArgs : LinearRows {
  BitmapMatrix weight;
};

void run(const BitmapBitsArgs& args, const ExecutionOptions& options);
void run(const BitmapBitsArgs& args, const Launch& on);

void run(const BitmapStartsArgs& args, const ExecutionOptions& options);
void run(const BitmapStartsArgs& args, const Launch& on);

void run(const BitmapValuesArgs& args, const ExecutionOptions& options);
void run(const BitmapValuesArgs& args, const Launch& on);

void run(const BitmapUnpackArgs& args, const ExecutionOptions& options);
void run(const BitmapUnpackArgs& args, const Launch& on);

void run(const BitmapLinearArgs& args, Oracle);
void run(const BitmapLinearArgs& args, const ExecutionOptions& options);
void run(const BitmapLinearArgs& args, const Launch& on);

// What a layout of kind kMask holds.
BitmapMatrix bitmap_of(const void* layout);

}  // namespace strop::linear
