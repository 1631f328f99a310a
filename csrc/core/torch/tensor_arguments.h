#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "core/parallel.h"
#include "core/tensor_view.h"

namespace strop {

// Kernels see torch's tensors through the same TensorView as numpy's arrays.
TensorView view_of(const torch::stable::Tensor& tensor);
TensorView view_of(const std::optional<torch::stable::Tensor>& tensor);

// An uninitialised tensor as torch.empty_like makes it: strides kept where they are dense.
torch::stable::Tensor empty_like(const torch::stable::Tensor& tensor, const TensorView& view);

// The tensor itself where it is contiguous, else a contiguous copy of it.
torch::stable::Tensor made_contiguous(const torch::stable::Tensor& tensor);
torch::stable::Tensor copied(const torch::stable::Tensor& tensor);

// So many uninitialised bytes on a tensor's device.
torch::stable::Tensor empty_bytes(std::int64_t count, const torch::stable::Tensor& beside);

// An uninitialised contiguous tensor on a tensor's device.
torch::stable::Tensor empty_of(const std::vector<std::int64_t>& shape, DType dtype,
                               const torch::stable::Tensor& beside);

// The same with four dimensions in torch's memory format channels_last.
torch::stable::Tensor empty_channels_last(const std::vector<std::int64_t>& shape, DType dtype,
                                          const torch::stable::Tensor& beside);

DType dtype_of_scalar(torch::headeronly::ScalarType type);

// torch's own thread pool; follows torch.set_num_threads. No other thread where a fork has lost
// them: Note [After a fork].
Parallel torch_threads();

}  // namespace strop
