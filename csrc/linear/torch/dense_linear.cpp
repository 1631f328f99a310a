#include "linear/torch/dense_linear.h"

#include <torch/csrc/stable/ops.h>

#include "core/argument_error.h"
#include "linear/arguments.h"

namespace strop::linear {
namespace {

using torch::stable::detail::from;

template <class Result>
Result call_aten(const char* name, std::initializer_list<StableIValue> arguments) {
  std::vector<StableIValue> stack(arguments);
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
  return torch::stable::detail::to<Result>(stack[0]);
}

Tensor activated(const Tensor& y, Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return call_aten<Tensor>("aten::relu", {from(y)});
    case Activation::kGelu:
      return call_aten<Tensor>("aten::gelu", {from(y), from(std::string("none"))});
    case Activation::kGeluTanh:
      return call_aten<Tensor>("aten::gelu", {from(y), from(std::string("tanh"))});
    case Activation::kSilu:
      return call_aten<Tensor>("aten::silu", {from(y)});
    default:
      return y;
  }
}

Tensor by_torch(const Tensor& x, const Tensor& weight, OptionalTensor bias, Activation activation) {
  using torch::stable::to;
  const auto dtype = weight.scalar_type();
  if (x.scalar_type() != dtype) {
    const Tensor y = by_torch(to(x, dtype), weight, std::move(bias), activation);
    return to(y, x.scalar_type());
  }
  if (bias && bias->scalar_type() != dtype) bias = to(*bias, dtype);
  return activated(call_aten<Tensor>("aten::linear", {from(x), from(weight), from(bias)}),
                   activation);
}

}  // namespace

Tensor dense_linear(const Tensor& x, const Tensor& weight, OptionalTensor bias,
                    Activation activation) {
  const TensorView input = view_of(x), matrix = view_of(weight);
  check_dense_linear("strop.packed_linear", input, matrix, view_of(bias));
  try {
    return by_torch(x, weight, std::move(bias), activation);
  } catch (const std::exception&) {
    // Says what torch could not, if it was memory for x in the weight's dtype, or for the result.
    if (input.dtype != matrix.dtype) {
      empty_of({input.shape, input.shape + input.dims}, matrix.dtype, x);
    }
    empty_of(shape_with_last(input, matrix.shape[0]), matrix.dtype, x);
    throw;
  }
}

Tensor byte_product(const Tensor& x, const Tensor& weight) {
  return call_aten<Tensor>("aten::_int_mm",
                           {from(x), from(torch::stable::transpose(weight, 0, 1))});
}

std::int64_t version_of(const Tensor& tensor) {
  return call_aten<std::int64_t>("aten::_version", {from(tensor)});
}

}  // namespace strop::linear
