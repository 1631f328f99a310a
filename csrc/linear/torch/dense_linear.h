#pragma once

#include "core/torch/call.h"
#include "linear/layout.h"

namespace strop::linear {

// activation(x w^T + bias) by torch's own linear, in the dtype of the dense weight; the result has
// that of x. Throws ArgumentError where they do not fit each other.
Tensor dense_linear(const Tensor& x, const Tensor& weight, OptionalTensor bias,
                    Activation activation);

// How many times torch has counted a write to the tensor.
std::int64_t version_of(const Tensor& tensor);

}  // namespace strop::linear
