#pragma once

#include "kernels/sparse.h"
#include "kernels/tensor_view.h"

namespace strop {

// Checks of what a caller hands over; each throws ArgumentError before anything is allocated.

// A dense weight to pack, and the mask of what to keep, if there is one.
void check_pack_sparse(const char* op, const TensorView& weight, const TensorView& mask);

// A packed weight: shapes and dtypes.
SparseMatrix shaped_matrix(const char* op, const TensorView& bits, const TensorView& values,
                           std::int64_t columns);
// The same, and that the bits count the values; on the CPU.
SparseMatrix checked_matrix(const char* op, const TensorView& bits, const TensorView& values,
                            std::int64_t columns);

LayoutChoice layout_named(const char* op, const std::string& name);

// The first bytes of a layout. Its indices are trusted: see check_sparse_layout.
void check_layout_header(const char* op, const TensorView& layout);
// All of it, against the shape that it ought to have.
void check_sparse_layout(const char* op, const TensorView& layout, std::int64_t rows,
                         std::int64_t columns);

struct SparseLinearTensors {
  TensorView x;  // [..., K]; rows of unit stride
  TensorView layout;
  TensorView bias;
  TensorView y;  // [..., N]
};

// What an input or a bias may be beside values of a dtype: float64 beside float64, any other beside
// any other.
void check_beside_values(const char* op, const char* name, DType dtype, DType values);

// A bias of so many elements, beside x; its dtype is checked elsewhere.
void check_linear_bias(const char* op, const TensorView& bias, std::int64_t rows,
                       const TensorView& x);

// All but the last dimension.
std::int64_t rows_of(const TensorView& x);

void check_sparse_linear(const char* op, const SparseLinearTensors& tensors);
SparseLinearArgs sparse_linear_args(const SparseLinearTensors& tensors, Activation activation);

// Packs: the bits first, which tell how many values there are.
std::int64_t write_bits(const TensorView& weight, const TensorView& mask, std::uint8_t* bits);
void write_values(const TensorView& weight, const std::uint8_t* bits, void* values);
// Restores the dense weight; `dense` has room for rows * columns.
void write_dense(const SparseMatrix& matrix, void* dense);

}  // namespace strop
