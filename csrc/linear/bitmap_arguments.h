#pragma once

#include "core/check.h"
#include "core/tensor_view.h"
#include "linear/bitmap.h"

namespace strop::linear {

// Checks of bits and values that are multiplied as they are; each throws ArgumentError before
// anything is allocated. What bits and starts hold is not looked at: it may be on a GPU.

struct BitmapTensors {
  TensorView bits;    // [N, ceil(K / 8)]
  TensorView values;  // [nnz]
  TensorView starts;  // [N + 1]
  bool on_cpu = false;
};

// A dtype that a GPU has kernels for.
void check_bitmap_dtype(const char* op, const char* name, DType dtype);
// As many columns as one counts.
void check_bitmap_columns(const char* op, std::int64_t columns);
void check_starts(const char* op, const TensorView& starts, std::int64_t rows,
                  const Argument& beside);

BitmapMatrix bitmap_matrix(const char* op, const BitmapTensors& tensors, std::int64_t columns);

struct BitmapLinearTensors {
  TensorView x;  // [..., K]; rows of unit stride
  BitmapTensors weight;
  TensorView bias;
  TensorView y;  // [..., N]
};

// The weight; K is x's, which has to fit the bits.
BitmapMatrix checked_bitmap_linear(const char* op, const BitmapLinearTensors& tensors);
BitmapLinearArgs bitmap_linear_args(const BitmapMatrix& matrix, const BitmapLinearTensors& tensors,
                                    Activation activation);

}  // namespace strop::linear
