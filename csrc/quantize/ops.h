#pragma once

#include "quantize/calls.h"

namespace strop::quantize {

// fake_quantize and its gradients, as functions of a Call.

// (the factor of a gradient is for autograd, which passes it on)
template <SpecBy kBy, class Call>
QuantizeCall<typename Call::Tensor> take_fake_quantize(const char* op, Call& call) {
  auto of = take_quantize_call<kBy>(op, call);
  if constexpr (kBy == SpecBy::kOptions && !Call::kByName) {
    call.template option<double>("grad_factor");
  }
  return of;
}

template <class Tensor>
void check_fake_quantize_call(const QuantizeCall<Tensor>& of, const FakeQuantizeTensors& tensors) {
  check_fake_quantize(of.op, of.spec(), tensors, of.has_seed());
  of.check_seed();
}

template <class Tensor>
FakeQuantizeArgs fake_quantize_call_args(const QuantizeCall<Tensor>& of,
                                         const FakeQuantizeTensors& tensors,
                                         const TensorView& mask) {
  FakeQuantizeArgs args = fake_quantize_args(of.spec(), tensors, of.seed_number());
  args.seed_at = of.seed_at();
  args.mask = static_cast<std::uint8_t*>(mask.data);
  return args;
}

// Over numpy's arrays a mask is the caller's, its bits 0.
template <class Call, SpecBy kBy>
void fake_quantize(Call& call) {
  const char* const op = Call::kInPlace ? "strop.fake_quantize_" : "strop.fake_quantize";
  const auto of = take_fake_quantize<kBy>(op, call);
  std::optional<typename Call::Tensor> mask;
  if constexpr (Call::kByName) mask = call.optional_written("mask");
  auto out = call.out(of.input);
  FakeQuantizeTensors tensors = of.tensors(out);
  check_fake_quantize_call(of, tensors);
  if (!out) tensors.output = view_of(out.emplace(call.empty_like(of.input)));
  if (mask) check_fake_quantize_mask(op, tensors, view_of(*mask));
  call.run(of.input, fake_quantize_call_args(of, tensors, view_of(mask)));
  call.give(std::move(*out));
}

// (output, mask)
template <class Call, SpecBy kBy>
void fake_quantize_with_mask(Call& call) {
  const auto of = take_fake_quantize<kBy>("strop.fake_quantize", call);
  FakeQuantizeTensors tensors = of.tensors();
  check_fake_quantize_call(of, tensors);
  auto out = call.empty_like(of.input);
  tensors.output = view_of(out);
  auto mask = call.zeros({mask_bytes(tensors.input.numel())}, DType::kUInt8, of.input);
  check_fake_quantize_mask(of.op, tensors, view_of(mask));
  call.run(of.input, fake_quantize_call_args(of, tensors, view_of(mask)));
  call.give(std::move(out));
  call.give(std::move(mask));
}

template <class Call>
void masked_gradient(Call& call) {
  const auto gradient = call.tensor("gradient");
  const auto mask = call.tensor("mask");
  auto out = call.out(gradient);
  MaskedGradientTensors tensors = {
      .gradient = view_of(gradient), .mask = view_of(mask), .output = view_of(out)};
  check_masked_gradient("strop._masked_gradient", tensors);
  if (!out) tensors.output = view_of(out.emplace(call.empty_like(gradient)));
  call.run(gradient, masked_gradient_args(tensors));
  call.give(std::move(*out));
}

// (of input, of scale, of zero_point), the last only of a floating zero point.
template <class Call, SpecBy kBy>
void learned_gradient(Call& call) {
  const auto gradient = call.tensor("gradient");
  const auto of = take_quantize_call<kBy>("strop._learned_gradient", call);
  const auto factor = call.template option<double>("grad_factor", 1.0);
  LearnedGradientTensors tensors = {.forward = of.tensors(),
                                    .gradient = view_of(gradient),
                                    .scale_gradient = {},
                                    .zero_gradient = {}};
  check_learned_gradient(of.op, of.spec(), tensors, of.has_seed());
  of.check_seed();
  const TensorView& zero = tensors.forward.zero_point;
  const bool learns_zero = zero.present && is_floating(zero.dtype);
  auto of_input = call.empty_like(of.input);
  auto of_scale = call.empty_like(*of.scale);
  auto of_zero =
      learns_zero ? call.empty_like(*of.zero_point) : call.nothing(DType::kUInt8, of.input);
  tensors.forward.output = view_of(of_input);
  tensors.scale_gradient = view_of(of_scale);
  if (learns_zero) tensors.zero_gradient = view_of(of_zero);
  LearnedGradientArgs args = learned_gradient_args(of.spec(), tensors, of.seed_number(), factor);
  args.forward.seed_at = of.seed_at();
  call.run(of.input, args);
  call.give(std::move(of_input));
  call.give(std::move(of_scale));
  call.give(std::move(of_zero));
}

}  // namespace strop::quantize
