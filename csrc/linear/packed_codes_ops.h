#pragma once

#include "linear/ops.h"
#include "linear/packed_codes_arguments.h"
#include "quantize/calls.h"

namespace strop::linear {

// The ops of weights in codes where these are on a GPU.

template <class Call>
struct PackedCodesCall {
  LinearInputs<Call> in;
  typename Call::Tensor codes;
  typename Call::Tensor scale;
  std::optional<typename Call::Tensor> zero_point;
  std::optional<typename Call::Tensor> tensor_scale;
  std::optional<typename Call::Tensor> bits;
  std::optional<typename Call::Tensor> starts;
  PackedCodes weight;
  Activations activations;

  std::int64_t rows() const { return rows_of(view_of(in.x)); }
};

// Of the arguments after the input, once they are known to be right. `starts`: of the rows, where
// there is a mask.
template <class Call>
PackedCodesCall<Call> take_packed_codes(Call& call, typename Call::Tensor x,
                                        std::optional<typename Call::Tensor> starts = {}) {
  PackedCodesCall<Call> of = {.in = {std::move(x)},
                              .codes = call.tensor("codes"),
                              .scale = call.tensor("scale"),
                              .zero_point = call.optional_tensor("zero_point"),
                              .tensor_scale = call.optional_tensor("tensor_scale"),
                              .bits = {},
                              .starts = std::move(starts),
                              .weight = {},
                              .activations = Activations::kExact};
  const quantize::QuantizeRequest request =
      quantize::take_quantize_request(call, quantize::QuantizeOptions::kOfCodes);
  const std::vector<std::int64_t> shape = call.sizes("shape");
  const auto activations = call.template option<std::string>("activations", "");
  of.bits = call.optional_tensor("bits");
  if constexpr (Call::kByName) of.starts = call.optional_tensor("starts");
  if (of.bits && !of.starts) {
    throw_value_error(kPackedLinear, ": codes beside a mask are not the whole weight's");
  }
  of.in = take_linear_inputs(call, std::move(of.in.x));
  of.codes = call.contiguous("codes", of.codes);
  if (of.bits) of.codes = call.aligned("codes", of.codes, 4);  // as kernels copy them
  of.weight = packed_codes(kPackedLinear, quantize::make_quantize_spec(kPackedLinear, request),
                           {{.codes = view_of(of.codes),
                             .scale = view_of(of.scale),
                             .zero_point = view_of(of.zero_point),
                             .tensor_scale = view_of(of.tensor_scale),
                             .output = {}},
                            view_of(of.bits),
                            of.bits ? view_of(of.starts) : TensorView{}},
                           shape);
  of.activations = checked_activations(kPackedLinear, of.weight, activations);
  check_linear_inputs(kPackedLinear, view_of(of.in.x), view_of(of.in.bias),
                      {of.weight.rows(), of.weight.columns(), DType::kFloat32, view_of(of.codes)});
  return of;
}

template <class Call>
void check_out(const PackedCodesCall<Call>& of, const std::optional<typename Call::Tensor>& out) {
  if (!out) return;
  check_linear_out(kPackedLinear, view_of(out), view_of(of.in.x), of.weight.rows(),
                   {{"the weight", view_of(of.codes)},
                    {"the weight", view_of(of.scale)},
                    {"the weight", view_of(of.zero_point)},
                    {"the weight", view_of(of.tensor_scale)},
                    {"the weight", view_of(of.bits)},
                    {"bias", view_of(of.in.bias)}});
}

// The dense weight, in a dtype that x may have.
template <class Call>
typename Call::Tensor restored(Call& call, const PackedCodesCall<Call>& of, DType dtype) {
  auto dense = call.empty({of.weight.rows(), of.weight.columns()}, dtype, of.codes);
  quantize::DequantizeArgs args = of.weight;
  args.problem.dtype = dtype;
  args.problem.output = view_of(dense).data;
  call.run(of.codes, args);
  return dense;
}

// The same of codes beside a mask.
template <class Call>
typename Call::Tensor unpacked_kept(Call& call, const PackedCodesCall<Call>& of, DType dtype) {
  auto dense = call.empty({of.weight.rows(), of.weight.columns()}, dtype, of.codes);
  call.run(of.codes, KeptCodesUnpackArgs{of.weight, dtype, view_of(dense).data});
  return dense;
}

// For what suits_byte_matrices: multiply(x, w) gives x w^T of matrices of signed bytes in int32.
template <class Call, class Multiply>
void multiply_byte_matrices(Call& call, const PackedCodesArgs& args,
                            const typename Call::Tensor& beside, Multiply multiply) {
  const std::int64_t rows = args.weight.rows(), columns = args.weight.columns();
  const Pieces pieces = args.weight.pieces(kPieceColumns);
  auto x = call.empty({args.rows, columns}, DType::kInt8, beside);
  auto scale = call.empty({args.rows}, DType::kFloat32, beside);
  auto zero = call.empty({args.rows}, DType::kInt32, beside);
  auto sums = call.empty({args.rows, pieces.all()}, DType::kInt32, beside);
  const InputCodes input = {.codes = static_cast<std::int8_t*>(view_of(x).data),
                            .scale = static_cast<float*>(view_of(scale).data),
                            .zero = static_cast<std::int32_t*>(view_of(zero).data),
                            .sums = static_cast<std::int32_t*>(view_of(sums).data)};
  call.run(beside, InputCodesArgs{args, args.activations, pieces, input});
  auto bytes = call.empty({rows, columns}, DType::kInt8, beside);
  auto weight_sums = call.empty({rows}, DType::kInt32, beside);
  auto* const of_weight = static_cast<std::int32_t*>(view_of(weight_sums).data);
  call.run(beside,
           WeightBytesArgs{args.weight, static_cast<std::int8_t*>(view_of(bytes).data), of_weight});
  const auto products = multiply(x, bytes);
  call.run(beside,
           ProductsArgs{args, args.weight, input,
                        static_cast<const std::int32_t*>(view_of(products).data), of_weight});
}

// Where kernels have it: quantized activations, or a few rows. To `out` where there is one.
template <class Call, class Multiply>
typename Call::Tensor multiply_codes(Call& call, PackedCodesCall<Call> of,
                                     std::optional<typename Call::Tensor> out, Multiply multiply) {
  of.in.make_rows(call);
  const TensorView x = view_of(of.in.x);
  if (!out) out.emplace(call.empty(shape_with_last(x, of.weight.rows()), x.dtype, of.in.x));
  const PackedCodesArgs args = {linear_rows(x, view_of(of.in.bias), view_of(out), of.in.activation),
                                of.weight, of.activations};
  if (of.activations != Activations::kExact && suits_byte_matrices(args)) {
    multiply_byte_matrices(call, args, of.in.x, multiply);
  } else {
    call.run(of.in.x, args);
  }
  return std::move(*out);
}

}  // namespace strop::linear
