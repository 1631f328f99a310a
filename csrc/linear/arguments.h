#pragma once

#include <vector>

#include "core/check.h"
#include "core/tensor_view.h"
#include "linear/codes.h"
#include "linear/layout.h"

namespace strop::linear {

// Checks of what a caller hands over; each throws ArgumentError before anything is allocated.

// A dense weight to pack, and the mask of what to keep, if there is one. A GPU has no float64.
void check_pack_masked(const char* op, const TensorView& weight, const TensorView& mask);

// A packed weight: shapes and dtypes.
MaskedMatrix shaped_matrix(const char* op, const TensorView& bits, const TensorView& values,
                           std::int64_t columns);
// The same, and that the bits count the values; on the CPU.
MaskedMatrix checked_matrix(const char* op, const TensorView& bits, const TensorView& values,
                            std::int64_t columns);

// The number of bits that are set.
void check_value_count(const char* op, const MaskedMatrix& matrix, std::int64_t count);

LayoutChoice layout_named(const char* op, const std::string& name);
// Values of float64 have one layout alone.
void check_layout_of(const char* op, LayoutChoice choice, DType values);

// The first bytes of a layout. Its indices are trusted: see check_layout.
void check_layout_header(const char* op, const TensorView& layout);
// All of it, against the shape that it ought to have.
void check_layout(const char* op, const TensorView& layout, std::int64_t rows,
                  std::int64_t columns);

struct PackedLinearTensors {
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
// Whether rows of x have unit stride, and one step from each to the next.
bool has_plain_rows(const TensorView& x);

// What a product is written to, apart from x and all else that is read: Note [Rules of out].
void check_linear_out(const char* op, const TensorView& out, const TensorView& x, std::int64_t rows,
                      std::initializer_list<Argument> read);

// A dense weight [N, K], x of one dimension or more, and a bias if there is one.
void check_dense_linear(const char* op, const TensorView& x, const TensorView& weight,
                        const TensorView& bias);

// Of plain rows and a contiguous y.
LinearRows linear_rows(const TensorView& x, const TensorView& bias, const TensorView& y,
                       Activation activation);

// A weight [N, K] of any kind, by what x and a bias have to fit.
struct LinearWeight {
  std::int64_t rows;
  std::int64_t columns;
  DType values;
  TensorView tensor;  // that is where the weight is
};
void check_linear_inputs(const char* op, const TensorView& x, const TensorView& bias,
                         const LinearWeight& weight);

void check_packed_linear(const char* op, const PackedLinearTensors& tensors);
MaskedLinearArgs masked_linear_args(const PackedLinearTensors& tensors, Activation activation);
CodedLinearArgs coded_linear_args(const PackedLinearTensors& tensors, Activation activation);

}  // namespace strop::linear
