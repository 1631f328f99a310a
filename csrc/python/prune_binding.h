#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "kernels/prune_arguments.h"
#include "python/quantize_codes_binding.h"

namespace strop {

// The ops of pruning over numpy arrays, whoever runs them: a Runner has a static run() for each
// kind of arguments.

struct ShrinkArgs : SoftThresholdArgs {};
struct ShrinkGradientArgs : SoftThresholdArgs {};

inline PruneRequest take_prune_request(Keywords& keywords) {
  using Number = std::optional<double>;
  return {.threshold = keywords.take<Number>("threshold", std::nullopt),
          .sparsity = keywords.take<Number>("sparsity", std::nullopt),
          .pattern = keywords.take<std::string>("pattern", "unstructured"),
          .block_size = keywords.take<std::vector<std::int64_t>>("block_size", {}),
          .per = keywords.take<std::string>("per", "tensor"),
          .norm = keywords.take<std::string>("norm", "l1")};
}

template <class Runner>
std::vector<pybind11::object> masks_of(const char* op, const PruneRule& rule,
                                       const std::vector<pybind11::object>& weights) {
  std::vector<pybind11::object> masks;
  std::vector<ArrayView> views;  // hold what the tensors point to
  PruneArgs args{.rule = rule, .tensors = {}};
  for (const pybind11::object& weight : weights) {
    const TensorView view = views.emplace_back(op, "weight", weight, false).view();
    check_prune(op, "weight", rule, view);
    if (!is_contiguous(view)) throw_value_error(op, ": weight is not contiguous");
    masks.push_back(make_array({view.shape, view.shape + view.dims}, DType::kBool));
    const ArrayView mask(op, "mask", masks.back(), true);
    args.tensors.push_back(prune_tensor(view, mask.view().data));
  }
  run_without_gil<Runner>(args);
  return masks;
}

template <class Runner>
pybind11::object prune_mask(const pybind11::object& weight, const pybind11::kwargs& options) {
  const char* const op = "strop.prune_mask";
  Keywords keywords(op, options);
  const PruneRule rule = make_prune_rule(op, take_prune_request(keywords));
  keywords.finish();
  return masks_of<Runner>(op, rule, {weight})[0];
}

template <class Runner>
std::vector<pybind11::object> prune_masks(const std::vector<pybind11::object>& weights,
                                          const pybind11::kwargs& options) {
  const char* const op = "strop.prune_masks";
  Keywords keywords(op, options);
  const PruneRule rule = make_prune_masks_rule(op, take_prune_request(keywords));
  keywords.finish();
  return masks_of<Runner>(op, rule, weights);
}

template <class Runner>
pybind11::object soft_threshold(const pybind11::object& weight, const pybind11::object& amount,
                                const pybind11::object& out) {
  const char* const op = "strop.soft_threshold";
  const bool number = pybind11::isinstance<pybind11::float_>(amount);
  const pybind11::object result = out.is_none() ? empty_like(weight) : out;
  const ArrayView views[] = {
      {op, "weight", weight, false},
      {op, "amount", number ? pybind11::object(pybind11::none()) : amount, false},
      {op, "out", result, true}};
  SoftThresholdTensors tensors = {
      .weight = views[0].view(), .amount = views[1].view(), .output = views[2].view()};
  if (number) check_soft_threshold_amount(op, tensors.number = amount.cast<double>());
  check_soft_threshold(op, tensors);
  run_without_gil<Runner>(ShrinkArgs{soft_threshold_args(tensors)});
  return result;
}

template <class Runner>
pybind11::object soft_threshold_gradient(const pybind11::object& gradient,
                                         const pybind11::object& weight,
                                         const pybind11::object& amount) {
  const char* const op = "strop.soft_threshold";
  const pybind11::object result = empty_like(weight);
  const ArrayView views[] = {{op, "weight", weight, false},
                             {op, "amount", amount, false},
                             {op, "gradient", gradient, false},
                             {op, "out", result, true}};
  const SoftThresholdTensors tensors = {.weight = views[0].view(),
                                        .amount = views[1].view(),
                                        .output = views[3].view(),
                                        .gradient = views[2].view()};
  check_soft_threshold(op, tensors);
  run_without_gil<Runner>(ShrinkGradientArgs{soft_threshold_args(tensors)});
  return result;
}

template <class Runner>
pybind11::object pack_mask(const pybind11::object& mask) {
  const char* const op = "strop.pack_mask";
  const ArrayView from(op, "mask", mask, false);
  const TensorView view = from.view();
  check_pack_mask(op, view);
  if (!is_contiguous(view)) throw_value_error(op, ": mask is not contiguous");
  std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
  shape.back() = (shape.back() + 7) / 8;
  const pybind11::object result = make_array(shape, DType::kUInt8);
  const ArrayView to(op, "out", result, true);
  run_without_gil<Runner>(
      PackMaskArgs{mask_rows(view.shape, view.dims, view.data, to.view().data)});
  return result;
}

template <class Runner>
pybind11::object unpack_mask(const pybind11::object& bits, std::int64_t count) {
  const char* const op = "strop.unpack_mask";
  const ArrayView from(op, "bits", bits, false);
  const TensorView view = from.view();
  check_unpack_mask(op, view, count);
  if (!is_contiguous(view)) throw_value_error(op, ": bits is not contiguous");
  std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
  shape.back() = count;
  const pybind11::object result = make_array(shape, DType::kBool);
  const ArrayView to(op, "out", result, true);
  run_without_gil<Runner>(
      UnpackMaskArgs{mask_rows(shape.data(), view.dims, view.data, to.view().data)});
  return result;
}

template <class Runner>
void bind_prune_ops(pybind11::module_& module, const std::string& by) {
  using pybind11::arg;
  const auto text = [&](const char* op) { return std::string(op) + " over numpy arrays, " + by; };
  module.def("prune_mask", &prune_mask<Runner>, text("strop.prune_mask").c_str(), arg("weight"));
  module.def("prune_masks", &prune_masks<Runner>, text("strop.prune_masks").c_str(),
             arg("weights"));
  module.def("soft_threshold", &soft_threshold<Runner>, text("strop.soft_threshold").c_str(),
             arg("weight"), arg("amount"), arg("out") = pybind11::none());
  module.def("soft_threshold_gradient", &soft_threshold_gradient<Runner>,
             text("What passes of a gradient through strop.soft_threshold").c_str(),
             arg("gradient"), arg("weight"), arg("amount"));
  module.def("pack_mask", &pack_mask<Runner>, text("strop.pack_mask").c_str(), arg("mask"));
  module.def("unpack_mask", &unpack_mask<Runner>, text("strop.unpack_mask").c_str(), arg("bits"),
             arg("K"));
}

}  // namespace strop
