#pragma once

#include "core/argument_error.h"
#include "prune/arguments.h"
#include "prune/soft_threshold.h"

namespace strop::prune {

// The ops of pruning, as functions of a Call: see core/torch/call.h.

template <class Call>
PruneRequest take_prune_request(Call& call, bool one_ranking) {
  using Number = std::optional<double>;
  PruneRequest request;
  if (!one_ranking) request.threshold = call.template option<Number>("threshold");
  request.sparsity = call.template option<Number>("sparsity");
  request.pattern = call.template option<std::string>("pattern", "unstructured");
  request.block_size = call.template option<std::vector<std::int64_t>>("block_size");
  if (!one_ranking) request.per = call.template option<std::string>("per", "tensor");
  request.norm = call.template option<std::string>("norm", "l1");
  return request;
}

template <class Call>
typename Call::Tensor empty_mask(Call& call, const typename Call::Tensor& weight) {
  const TensorView view = view_of(weight);
  return call.empty({view.shape, view.shape + view.dims}, DType::kBool, weight);
}

template <class Call>
void prune_mask(Call& call) {
  const char* const op = "strop.prune_mask";
  const auto weight = call.tensor("weight");
  const PruneRule rule = make_prune_rule(op, take_prune_request(call, false));
  check_prune(op, "weight", rule, view_of(weight));
  auto mask = empty_mask(call, weight);
  const auto dense = call.contiguous("weight", weight);
  call.run(weight, PruneArgs{rule, {prune_tensor(view_of(dense), view_of(mask).data)}});
  call.give(std::move(mask));
}

template <class Call>
void prune_masks(Call& call) {
  const char* const op = "strop.prune_masks";
  const auto weights = call.tensors("weights");
  PruneArgs args{.rule = make_prune_masks_rule(op, take_prune_request(call, true)), .tensors = {}};
  if (weights.empty()) throw_value_error(op, ": there is no weight to prune");
  for (const auto& weight : weights) {
    check_prune(op, "a weight", args.rule, view_of(weight));
    if (view_of(weight).device != view_of(weights[0]).device) {
      throw_value_error(op, ": weights are on several devices; all must be on one");
    }
  }
  std::vector<typename Call::Tensor> masks, dense;
  for (const auto& weight : weights) {
    masks.push_back(empty_mask(call, weight));
    dense.push_back(call.contiguous("a weight", weight));
    args.tensors.push_back(prune_tensor(view_of(dense.back()), view_of(masks.back()).data));
  }
  call.run(weights[0], args);
  call.give(std::move(masks));
}

// Of a number or a tensor exactly one is given.
template <class Call>
auto take_amount(const char* op, Call& call) {
  auto [number, tensor] = call.number_or_tensor("amount");
  if (number.has_value() == tensor.has_value()) {
    throw_value_error(op, ": ", number ? "both" : "neither", " of amount and amount_tensor ",
                      number ? "are" : "is", " given; give exactly one");
  }
  if (number) check_soft_threshold_amount(op, *number);
  return std::pair(number.value_or(0), std::move(tensor));
}

template <class Call>
void soft_threshold(Call& call) {
  const char* const op = Call::kInPlace ? "strop.soft_threshold_" : "strop.soft_threshold";
  const auto weight = call.tensor("weight");
  const auto [number, amount] = take_amount(op, call);
  auto out = call.out(weight);
  SoftThresholdTensors tensors = {.weight = view_of(weight),
                                  .amount = view_of(amount),
                                  .number = number,
                                  .output = view_of(out)};
  check_soft_threshold(op, tensors);
  if (!out) tensors.output = view_of(out.emplace(call.empty_like(weight)));
  call.run(weight, soft_threshold_args(tensors));
  call.give(std::move(*out));
}

template <class Call>
void soft_threshold_gradient(Call& call) {
  const char* const op = "strop.soft_threshold";
  const auto gradient = call.tensor("gradient");
  const auto weight = call.tensor("weight");
  const auto [number, amount] = take_amount(op, call);
  SoftThresholdTensors tensors = {.weight = view_of(weight),
                                  .amount = view_of(amount),
                                  .number = number,
                                  .gradient = view_of(gradient)};
  check_soft_threshold(op, tensors);
  auto out = call.empty_like(weight);
  tensors.output = view_of(out);
  call.run(weight, SoftThresholdGradientArgs{soft_threshold_args(tensors)});
  call.give(std::move(out));
}

template <class Call>
void pack_mask(Call& call) {
  const auto mask = call.tensor("mask");
  check_pack_mask("strop.pack_mask", view_of(mask));
  const auto dense = call.contiguous("mask", mask);
  const TensorView view = view_of(dense);
  const std::int64_t bytes = (view.shape[view.dims - 1] + 7) / 8;
  auto bits = call.empty(shape_with_last(view, bytes), DType::kUInt8, mask);
  call.run(mask, PackMaskArgs{mask_rows(view.shape, view.dims, view.data, view_of(bits).data)});
  call.give(std::move(bits));
}

template <class Call>
void unpack_mask(Call& call) {
  const auto bits = call.tensor("bits");
  const auto count = call.template option<std::int64_t>("K");
  check_unpack_mask("strop.unpack_mask", view_of(bits), count);
  const auto dense = call.contiguous("bits", bits);
  const TensorView view = view_of(dense);
  const std::vector<std::int64_t> shape = shape_with_last(view, count);
  auto mask = call.empty(shape, DType::kBool, bits);
  call.run(bits, UnpackMaskArgs{mask_rows(shape.data(), view.dims, view.data, view_of(mask).data)});
  call.give(std::move(mask));
}

}  // namespace strop::prune
