#pragma once

#include <cstdint>

#include "kernels/sparse.h"

namespace strop {

// Pruned weights on a GPU, which reads the form that they are kept in: no layout is made of it.
// What is added is where the values of each row begin, for rows are worked on side by side.
//
//   starts[r] = number of bits that are set in the rows before r,  0 <= r <= rows
//
// Whoever calls a kernel has seen to it that bits, starts and values fit each other; a kernel
// trusts them. Values are float32, bfloat16 or float16, and sums are float32. A weight is widened,
// never rounded: x is of the values' dtype or float32, and so is a dense weight that is made of
// them.

inline constexpr std::int64_t kMostBitmapRows = 8;  // of x, for which the bits are multiplied with

inline constexpr std::int64_t kMostBitmapColumns = std::int64_t{1} << 32;

struct BitmapMatrix : SparseMatrix {     // values are aligned to four bytes
  const std::int64_t* starts = nullptr;  // [rows + 1]
};

// Whether values of one dtype may be read as another.
constexpr bool widens(DType values, DType to) {
  return values != DType::kFloat64 && (to == values || to == DType::kFloat32);
}

struct BitmapStartsArgs {
  const std::uint8_t* bits;
  std::int64_t rows;
  std::int64_t row_bytes;
  std::int64_t* starts;  // written
};

// From a contiguous weight: first the bits of what is not zero, or else those that a mask has
// given; then, with starts, the values. NaN is kept, zeros of both signs are not.
struct BitmapPackArgs {
  DType dtype;
  const void* weight;
  std::int64_t rows;
  std::int64_t columns;
  std::uint8_t* bits;
  const std::int64_t* starts;
  void* values;

  constexpr std::int64_t row_bytes() const { return (columns + 7) / 8; }
};

// To a contiguous weight; what was pruned is +0.
struct BitmapUnpackArgs {
  BitmapMatrix matrix;
  DType dtype;  // of dense
  void* dense;
};

// y[m][n] = activation(sum_k x[m][k] w[n][k] + bias[n]) for at most kMostBitmapRows rows of x. A
// lane adds up the columns of its bytes from left to right, by FMAs, then the lanes are added in
// pairs, theirs in pairs, and so on: the order depends on the number of columns alone.
struct BitmapLinearArgs {
  BitmapMatrix weight;
  DType dtype;  // of x and y
  std::int64_t rows;
  const void* x;
  std::int64_t x_stride;  // between rows, in elements; along them it is 1
  void* y;
  std::int64_t y_stride;
  const void* bias;  // null: none
  DType bias_dtype;  // float32, bfloat16 or float16
  Activation activation;
};

}  // namespace strop
