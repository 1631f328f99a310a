#pragma once

#include "core/argument_error.h"
#include "core/check.h"
#include "quantize/gradient_arguments.h"

namespace strop::quantize {

// What the ops of quantize have in common: how they take their arguments from a Call (see
// core/torch/call.h).

// Which options an op of torch's has; over numpy's arrays every op has them all.
enum class QuantizeOptions { kAll, kOfScales, kOfCodes };

// fake_quantize's options, in the order of the schemas, with the seed among them.
template <class Call>
QuantizeRequest take_quantize_request(Call& call, QuantizeOptions options,
                                      std::optional<std::int64_t>* seed = nullptr) {
  using Integer = std::optional<std::int64_t>;
  const bool all = Call::kByName || options == QuantizeOptions::kAll;
  const bool of_scales = all || options == QuantizeOptions::kOfScales;
  QuantizeRequest request;
  request.format = call.template option<std::string>("format", request.format);
  request.block_size = call.sizes("block_size");
  if (all) request.rounding = call.template option<std::string>("rounding", request.rounding);
  if (of_scales) request.symmetric = call.template option<bool>("symmetric", request.symmetric);
  if (all && seed != nullptr) *seed = call.template option<Integer>("seed");
  if (!of_scales) return request;
  request.quant_min = call.template option<Integer>("quant_min");
  request.quant_max = call.template option<Integer>("quant_max");
  request.eps = call.template option<std::optional<double>>("eps");
  return request;
}

// How an op is told what to quantize to: by options, or for eager calls by the index of an interned
// specification.
enum class SpecBy { kOptions, kIndex };

// One call's arguments.
template <class Tensor>
struct QuantizeCall {
  const char* op;
  Tensor input;
  std::optional<Tensor> scale = {};
  std::optional<Tensor> zero_point = {};
  std::optional<QuantizeSpec> own = {};
  const QuantizeSpec* interned = nullptr;
  std::optional<std::int64_t> seed = {};
  std::optional<Tensor> seed_tensor = {};  // where only a GPU can read it

  const QuantizeSpec& spec() const { return interned != nullptr ? *interned : *own; }
  bool has_seed() const { return seed || seed_tensor; }

  FakeQuantizeTensors tensors(const std::optional<Tensor>& out = {}) const {
    return {.input = view_of(input),
            .scale = view_of(scale),
            .zero_point = view_of(zero_point),
            .output = view_of(out)};
  }
  void check_seed() const {
    if (seed_tensor) check_device(op, {"seed", view_of(*seed_tensor)}, {"input", view_of(input)});
  }
  std::uint64_t seed_number() const { return static_cast<std::uint64_t>(seed.value_or(0)); }
  const std::uint64_t* seed_at() const {
    return seed_tensor ? static_cast<const std::uint64_t*>(view_of(*seed_tensor).data) : nullptr;
  }
};

// One in a tensor stays there on a GPU, so that compiled code does not specialise on it and a CUDA
// graph can change it.
template <class Call>
void take_seed_tensor(Call& call, QuantizeCall<typename Call::Tensor>& of) {
  of.seed_tensor = call.optional_tensor("seed_tensor");
  if (!of.seed_tensor) return;
  const TensorView view = view_of(*of.seed_tensor);
  check_dtype(of.op, {"seed", view}, DType::kInt64);
  if (view.numel() != 1) {
    throw_value_error(of.op, ": seed has shape ", shape_text(view.shape, view.dims),
                      "; one element is needed");
  }
  if (view.device > 0) return;
  of.seed = *static_cast<const std::int64_t*>(view.data);
  of.seed_tensor.reset();
}

template <SpecBy kBy, class Call>
QuantizeCall<typename Call::Tensor> take_quantize_call(const char* op, Call& call) {
  QuantizeCall<typename Call::Tensor> of = {.op = op,
                                            .input = call.tensor("input"),
                                            .scale = call.optional_tensor("scale"),
                                            .zero_point = call.optional_tensor("zero_point")};
  if constexpr (kBy == SpecBy::kIndex) {
    of.interned = &interned_quantize_spec(op, call.template option<std::int64_t>("spec"));
    of.seed = call.template option<std::optional<std::int64_t>>("seed");
  } else {
    const QuantizeRequest request = take_quantize_request(call, QuantizeOptions::kAll, &of.seed);
    if constexpr (!Call::kByName) take_seed_tensor(call, of);
    of.own = make_quantize_spec(op, request);
  }
  return of;
}

}  // namespace strop::quantize
