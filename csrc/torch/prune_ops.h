#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "kernels/argument_error.h"
#include "kernels/prune_arguments.h"
#include "torch/quantize_ops.h"
#include "torch/tensor_arguments.h"

namespace strop {

// The ops of pruning for one kind of device. A Backend is made for a tensor, and makes its device
// the current one while it lives; it has the kernels:
//   void prune(const PruneArgs&)
//   void soft_threshold(const SoftThresholdArgs&), void soft_threshold_gradient(...)
//   void pack_mask(const MaskRows&), void unpack_mask(const MaskRows&)

inline constexpr const char* kPruneMask = "strop.prune_mask";
inline constexpr const char* kPruneMasks = "strop.prune_masks";

// A number or a tensor: exactly one of them is given.
inline constexpr const char* kAmount = "float? amount=None, Tensor? amount_tensor=None";

template <class Library>
void define_prune_ops(Library& m) {
  const auto soft = [&](const char* name, const char* weight, const char* result) {
    m.def((std::string(name) + "(" + weight + ", " + kAmount + result).c_str());
  };
  m.def(
      "prune_mask(Tensor weight, float? threshold=None, float? sparsity=None, "
      "str pattern='unstructured', int[] block_size=[], str per='tensor', str norm='l1') -> "
      "Tensor");
  m.def(
      "prune_masks(Tensor[] weights, float? sparsity=None, str pattern='unstructured', "
      "int[] block_size=[], str norm='l1') -> Tensor[]");
  soft("soft_threshold", "Tensor weight", ") -> Tensor");
  soft("soft_threshold.out", "Tensor weight", ", *, Tensor(a!) out) -> ()");
  soft("soft_threshold_", "Tensor(a!) weight", ") -> ()");
  soft("_soft_threshold_gradient", "Tensor gradient, Tensor weight", ") -> Tensor");
  m.def("pack_mask(Tensor mask) -> Tensor");
  m.def("unpack_mask(Tensor bits, SymInt K) -> Tensor");
}

template <class Backend>
struct PruneOps {
  static Tensor mask_of(const Tensor& weight) {
    const TensorView view = view_of(weight);
    return empty_of({view.shape, view.shape + view.dims}, DType::kBool, weight);
  }

  static void prune_mask(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor weight = stack.take<Tensor>();
    PruneRequest request;
    request.threshold = stack.take<std::optional<double>>();
    request.sparsity = stack.take<std::optional<double>>();
    request.pattern = stack.take<std::string>();
    request.block_size = stack.take<std::vector<std::int64_t>>();
    request.per = stack.take<std::string>();
    request.norm = stack.take<std::string>();
    const PruneRule rule = make_prune_rule(kPruneMask, request);
    check_prune(kPruneMask, "weight", rule, view_of(weight));
    Tensor mask = mask_of(weight);
    const Tensor dense = made_contiguous(weight);
    Backend backend(weight);
    backend.prune({rule, {prune_tensor(view_of(dense), mask.data_ptr())}});
    values[0] = torch::stable::detail::from(std::move(mask));
  }

  static void check_weights(const PruneRule& rule, const std::vector<Tensor>& weights) {
    if (weights.empty()) throw_value_error(kPruneMasks, ": there is no weight to prune");
    for (const Tensor& weight : weights) {
      const TensorView view = view_of(weight);
      check_prune(kPruneMasks, "a weight", rule, view);
      if (view.device != view_of(weights[0]).device) {
        throw_value_error(kPruneMasks, ": weights are on several devices; all must be on one");
      }
    }
  }

  static void prune_masks(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const auto weights = stack.take<std::vector<Tensor>>();
    PruneRequest request;
    request.sparsity = stack.take<std::optional<double>>();
    request.pattern = stack.take<std::string>();
    request.block_size = stack.take<std::vector<std::int64_t>>();
    request.norm = stack.take<std::string>();
    PruneArgs args{.rule = make_prune_masks_rule(kPruneMasks, request), .tensors = {}};
    check_weights(args.rule, weights);
    std::vector<Tensor> masks, dense;
    for (const Tensor& weight : weights) {
      masks.push_back(mask_of(weight));
      dense.push_back(made_contiguous(weight));
      args.tensors.push_back(prune_tensor(view_of(dense.back()), masks.back().data_ptr()));
    }
    Backend backend(weights[0]);
    backend.prune(args);
    values[0] = torch::stable::detail::from(std::move(masks));
  }

  // A number, or a tensor.
  struct Amount {
    OptionalTensor tensor;
    double number;
  };

  static Amount take_amount(const char* op, Stack& stack) {
    const auto number = stack.take<std::optional<double>>();
    auto tensor = stack.take<OptionalTensor>();
    if (number.has_value() == tensor.has_value()) {
      throw_value_error(op, ": ", number ? "both" : "neither", " of amount and amount_tensor ",
                        number ? "are" : "is", " given; give exactly one");
    }
    if (number) check_soft_threshold_amount(op, *number);
    return {std::move(tensor), number.value_or(0)};
  }

  static void shrink(const char* op, const Tensor& weight, Stack& stack, const Tensor& out) {
    const Amount amount = take_amount(op, stack);
    const SoftThresholdTensors tensors = {.weight = view_of(weight),
                                          .amount = view_of(amount.tensor),
                                          .number = amount.number,
                                          .output = view_of(out),
                                          .gradient = {}};
    check_soft_threshold(op, tensors);
    Backend backend(weight);
    backend.soft_threshold(soft_threshold_args(tensors));
  }

  static void soft_threshold(StableIValue* values, std::uint64_t, std::uint64_t) {
    const char* const op = "strop.soft_threshold";
    Stack stack(values);
    const Tensor weight = stack.take<Tensor>();
    const TensorView view = view_of(weight);
    check_soft_threshold(op, {.weight = view});
    Tensor out = empty_like(weight, view);
    shrink(op, weight, stack, out);
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void soft_threshold_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values), to(values + 3);
    shrink("strop.soft_threshold", stack.take<Tensor>(), stack, to.take<Tensor>());
  }

  static void soft_threshold_in_place(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor weight = stack.take<Tensor>();
    shrink("strop.soft_threshold_", weight, stack, weight);
  }

  static void soft_threshold_gradient(StableIValue* values, std::uint64_t, std::uint64_t) {
    const char* const op = "strop.soft_threshold";
    Stack stack(values);
    const Tensor gradient = stack.take<Tensor>();
    const Tensor weight = stack.take<Tensor>();
    const Amount amount = take_amount(op, stack);
    SoftThresholdTensors tensors = {.weight = view_of(weight),
                                    .amount = view_of(amount.tensor),
                                    .number = amount.number,
                                    .output = {},
                                    .gradient = view_of(gradient)};
    check_soft_threshold(op, tensors);
    Tensor out = empty_like(weight, tensors.weight);
    tensors.output = view_of(out);
    Backend backend(weight);
    backend.soft_threshold_gradient(soft_threshold_args(tensors));
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void pack_mask(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor mask = stack.take<Tensor>();
    check_pack_mask("strop.pack_mask", view_of(mask));
    const Tensor dense = made_contiguous(mask);
    const TensorView view = view_of(dense);
    std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
    shape.back() = (shape.back() + 7) / 8;
    Tensor bits = empty_of(shape, DType::kUInt8, mask);
    Backend backend(mask);
    backend.pack_mask(mask_rows(view.shape, view.dims, view.data, bits.data_ptr()));
    values[0] = torch::stable::detail::from(std::move(bits));
  }

  static void unpack_mask(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor bits = stack.take<Tensor>();
    const auto count = stack.take<std::int64_t>();
    check_unpack_mask("strop.unpack_mask", view_of(bits), count);
    const Tensor dense = made_contiguous(bits);
    const TensorView view = view_of(dense);
    std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
    shape.back() = count;
    Tensor mask = empty_of(shape, DType::kBool, bits);
    Backend backend(bits);
    backend.unpack_mask(mask_rows(shape.data(), view.dims, view.data, mask.data_ptr()));
    values[0] = torch::stable::detail::from(std::move(mask));
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("prune_mask", prune_mask);
    m.impl("prune_masks", prune_masks);
    m.impl("soft_threshold", soft_threshold);
    m.impl("soft_threshold.out", soft_threshold_out);
    m.impl("soft_threshold_", soft_threshold_in_place);
    m.impl("_soft_threshold_gradient", soft_threshold_gradient);
    m.impl("pack_mask", pack_mask);
    m.impl("unpack_mask", unpack_mask);
  }
};

}  // namespace strop
