#pragma once

#include "core/torch/call.h"
#include "linear/layout.h"

namespace strop::linear {

// activation(x w^T + bias) by torch's own linear, in the dtype of the dense weight; the result has
// that of x. Throws ArgumentError where they do not fit each other.
Tensor dense_linear(const Tensor& x, const Tensor& weight, OptionalTensor bias,
                    Activation activation);

// x w^T of matrices of signed bytes, in int32. Shapes have to be those that torch's kernel takes.
Tensor byte_product(const Tensor& x, const Tensor& weight);

// How many times torch has counted a write to the tensor.
std::int64_t version_of(const Tensor& tensor);

}  // namespace strop::linear
