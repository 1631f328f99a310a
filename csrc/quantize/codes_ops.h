#pragma once

#include "quantize/calls.h"
#include "quantize/codes_arguments.h"

namespace strop::quantize {

// quantize, dequantize and the packing of codes, as functions of a Call.

// A result, or what stands for one that there is none of.
template <class Tensor>
struct MaybeMade {
  Tensor tensor;
  bool made;

  TensorView view() const { return made ? view_of(tensor) : TensorView{}; }
};

// Gives (codes, scale, zero_point, tensor_scale), those that are not chosen as nothing.
template <class Call>
void choose_and_quantize(Call& call, const QuantizeCall<typename Call::Tensor>& of, bool codes) {
  const QuantizeSpec& spec = of.spec();
  const FakeQuantizeTensors forward = of.tensors();
  check_quantize(of.op, spec, forward, of.has_seed() || !codes);
  of.check_seed();
  const auto make = [&](bool wanted, const std::vector<std::int64_t>& shape, DType dtype) {
    return MaybeMade<typename Call::Tensor>{
        wanted ? call.empty(shape, dtype, of.input) : call.nothing(dtype, of.input), wanted};
  };
  const DType dtype = forward.input.dtype;
  const bool chosen = !forward.scale.present;
  const bool two_levels = chosen && spec.format.scales == ScaleKind::kTwoLevels;
  const std::vector<std::int64_t> grid = blocks_shape(spec, forward.input);
  auto made = make(codes, codes_shape(spec, forward.input), codes_dtype(spec));
  auto scale = make(chosen, grid, chosen_scale_dtype(spec, dtype));
  auto zero_point = make(chosen && chooses_zero_point(spec), grid, DType::kInt32);
  auto tensor_scale =
      make(two_levels, {}, dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32);
  const QuantizeTensors tensors = {.forward = forward,
                                   .codes = made.view(),
                                   .chosen_scale = scale.view(),
                                   .chosen_zero_point = zero_point.view(),
                                   .chosen_tensor_scale = tensor_scale.view()};
  QuantizeArgs args = quantize_args(spec, tensors, of.seed_number());
  args.problem.seed_at = of.seed_at();
  call.run(of.input, args);
  if (codes || Call::kByName) call.give(std::move(made.tensor));
  call.give(std::move(scale.tensor));
  call.give(std::move(zero_point.tensor));
  call.give(std::move(tensor_scale.tensor));
}

template <class Call>
void quantize(Call& call) {
  choose_and_quantize(call, take_quantize_call<SpecBy::kOptions>("strop.quantize", call), true);
}

template <class Call>
void choose_scale(Call& call) {
  QuantizeCall<typename Call::Tensor> of = {.op = "strop.choose_scale",
                                            .input = call.tensor("input")};
  of.own =
      make_quantize_spec(of.op, take_quantize_request(call, QuantizeOptions::kOfScales, &of.seed));
  choose_and_quantize(call, of, false);
}

template <class Call>
void dequantize(Call& call) {
  const char* const op = "strop.dequantize";
  const auto codes = call.tensor("codes");
  const auto scale = call.tensor("scale");
  const auto zero_point = call.optional_tensor("zero_point");
  const auto tensor_scale = call.optional_tensor("tensor_scale");
  const QuantizeSpec spec =
      make_quantize_spec(op, take_quantize_request(call, QuantizeOptions::kOfCodes));
  std::vector<std::int64_t> shape;
  DType dtype = DType::kFloat32;
  if constexpr (!Call::kGiven) {
    shape = call.sizes("shape");
    dtype = call.dtype("dtype");
  }
  auto out = call.out(codes);
  if (!out) {
    check_dequantize_dtype(op, dtype);
    out.emplace(call.empty(shape, dtype, codes));
  }
  const DequantizeTensors tensors = {.codes = view_of(codes),
                                     .scale = view_of(scale),
                                     .zero_point = view_of(zero_point),
                                     .tensor_scale = view_of(tensor_scale),
                                     .output = view_of(*out)};
  check_dequantize(op, spec, tensors);
  call.run(codes, dequantize_args(spec, tensors));
  call.give(std::move(*out));
}

template <class Call>
void pack_bits(Call& call) {
  const auto codes = call.tensor("codes");
  const auto bits = call.template option<std::int64_t>("bits");
  check_pack("strop.pack_bits", view_of(codes), bits);
  const auto dense = call.contiguous("codes", codes);
  const TensorView view = view_of(dense);
  const std::int64_t bytes = code_row_bytes(view.shape[view.dims - 1], static_cast<int>(bits));
  auto packed = call.empty(shape_with_last(view, bytes), DType::kUInt8, codes);
  call.run(codes, PackArgs{bit_rows(view.shape, view.dims, bits, view.data, view_of(packed).data)});
  call.give(std::move(packed));
}

template <class Call>
void unpack_bits(Call& call) {
  const char* const op = "strop.unpack_bits";
  const auto packed = call.tensor("packed");
  const auto bits = call.template option<std::int64_t>("bits");
  const auto count = call.template option<std::int64_t>("count");
  check_unpack(op, view_of(packed), bits, count);
  auto out = call.out(packed);
  if (out) check_unpack_out(op, view_of(packed), count, view_of(*out));
  const auto dense = call.contiguous("packed", packed);
  const TensorView view = view_of(dense);
  const std::vector<std::int64_t> shape = shape_with_last(view, count);
  if (!out) out.emplace(call.empty(shape, DType::kUInt8, packed));
  call.run(packed,
           UnpackArgs{bit_rows(shape.data(), view.dims, bits, view.data, view_of(*out).data)});
  call.give(std::move(*out));
}

}  // namespace strop::quantize
