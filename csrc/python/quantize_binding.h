#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/quantize_gradient_arguments.h"
#include "python/array_view.h"
#include "python/keywords.h"

namespace strop {

// The quantize ops over numpy arrays, whoever runs them: a Runner has a static run() for each kind
// of arguments.

inline QuantizeRequest take_request(Keywords& keywords) {
  const auto block_size =
      keywords.take<std::optional<std::vector<std::int64_t>>>("block_size", std::nullopt);
  return {.format = keywords.take<std::string>("format", "int8"),
          .whole = !block_size,
          .block_size = block_size.value_or(std::vector<std::int64_t>{}),
          .rounding = keywords.take<std::string>("rounding", "half_even"),
          .symmetric = keywords.take("symmetric", true),
          .quant_min = keywords.take<std::optional<std::int64_t>>("quant_min", std::nullopt),
          .quant_max = keywords.take<std::optional<std::int64_t>>("quant_max", std::nullopt),
          .eps = keywords.take<std::optional<double>>("eps", std::nullopt)};
}

inline pybind11::object empty_like(const pybind11::object& array) {
  return pybind11::module_::import("numpy").attr("empty_like")(array);
}

template <class Runner, class Args>
void run_without_gil(const Args& args) {
  const pybind11::gil_scoped_release release;
  Runner::run(args);
}

template <class Runner>
pybind11::object fake_quantize(const pybind11::object& input, const pybind11::object& scale,
                               const pybind11::object& zero_point,
                               const pybind11::kwargs& options) {
  const char* op = "strop.fake_quantize";
  Keywords keywords(op, options);
  const QuantizeSpec spec = make_quantize_spec(op, take_request(keywords));
  const auto seed = keywords.take<std::optional<std::int64_t>>("seed", std::nullopt);
  const auto out = keywords.take<pybind11::object>("out", pybind11::none());
  const auto mask = keywords.take<pybind11::object>("mask", pybind11::none());
  keywords.finish();
  const ArrayView input_view(op, "input", input, false);
  const ArrayView scale_view(op, "scale", scale, false);
  const ArrayView zero_point_view(op, "zero_point", zero_point, false);
  FakeQuantizeTensors tensors = {.input = input_view.view(),
                                 .scale = scale_view.view(),
                                 .zero_point = zero_point_view.view(),
                                 .output = {}};
  check_fake_quantize(op, spec, tensors, seed.has_value());
  const pybind11::object result = out.is_none() ? empty_like(input) : out;
  const ArrayView output_view(op, "out", result, true);
  tensors.output = output_view.view();
  check_fake_quantize(op, spec, tensors, seed.has_value());
  const ArrayView mask_view(op, "mask", mask, true);
  if (!mask.is_none()) check_fake_quantize_mask(op, tensors, mask_view.view());
  FakeQuantizeArgs args =
      fake_quantize_args(spec, tensors, static_cast<std::uint64_t>(seed.value_or(0)));
  args.mask = static_cast<std::uint8_t*>(mask_view.view().data);
  run_without_gil<Runner>(args);
  return result;
}

template <class Runner>
pybind11::object masked_gradient(const pybind11::object& gradient, const pybind11::object& mask) {
  const char* op = "strop.masked_gradient";
  const ArrayView gradient_view(op, "gradient", gradient, false);
  const ArrayView mask_view(op, "mask", mask, false);
  MaskedGradientTensors tensors = {
      .gradient = gradient_view.view(), .mask = mask_view.view(), .output = {}};
  check_masked_gradient(op, tensors);
  const pybind11::object result = empty_like(gradient);
  const ArrayView output_view(op, "out", result, true);
  tensors.output = output_view.view();
  run_without_gil<Runner>(masked_gradient_args(tensors));
  return result;
}

// (of input, of scale, of zero_point or None)
template <class Runner>
pybind11::tuple learned_gradient(const pybind11::object& gradient, const pybind11::object& input,
                                 const pybind11::object& scale, const pybind11::object& zero_point,
                                 const pybind11::kwargs& options) {
  const char* op = "strop.learned_gradient";
  Keywords keywords(op, options);
  const QuantizeSpec spec = make_quantize_spec(op, take_request(keywords));
  const auto seed = keywords.take<std::optional<std::int64_t>>("seed", std::nullopt);
  const double factor = keywords.take("grad_factor", 1.0);
  keywords.finish();
  const ArrayView views[] = {{op, "gradient", gradient, false},
                             {op, "input", input, false},
                             {op, "scale", scale, false},
                             {op, "zero_point", zero_point, false}};
  LearnedGradientTensors tensors = {.forward = {.input = views[1].view(),
                                                .scale = views[2].view(),
                                                .zero_point = views[3].view(),
                                                .output = {}},
                                    .gradient = views[0].view(),
                                    .scale_gradient = {},
                                    .zero_gradient = {}};
  check_learned_gradient(op, spec, tensors, seed.has_value());
  const bool learns_zero =
      tensors.forward.zero_point.present && is_floating(tensors.forward.zero_point.dtype);
  const pybind11::object results[] = {empty_like(input), empty_like(scale),
                                      learns_zero ? empty_like(zero_point) : pybind11::none()};
  const ArrayView made[] = {{op, "the gradient of input", results[0], true},
                            {op, "the gradient of scale", results[1], true},
                            {op, "the gradient of zero_point", results[2], true}};
  tensors.forward.output = made[0].view();
  tensors.scale_gradient = made[1].view();
  tensors.zero_gradient = made[2].view();
  run_without_gil<Runner>(
      learned_gradient_args(spec, tensors, static_cast<std::uint64_t>(seed.value_or(0)), factor));
  return pybind11::make_tuple(results[0], results[1], results[2]);
}

template <class Runner>
void bind_quantize_ops(pybind11::module_& module, const std::string& by) {
  module.def("fake_quantize", &fake_quantize<Runner>,
             ("strop.fake_quantize over numpy arrays, " + by +
              "; with mask=, bits of 0, also which codes were in range.")
                 .c_str(),
             pybind11::arg("input"), pybind11::arg("scale") = pybind11::none(),
             pybind11::arg("zero_point") = pybind11::none());
  module.def("masked_gradient", &masked_gradient<Runner>,
             ("The gradient of fake_quantize where its mask lets it pass, " + by + ".").c_str(),
             pybind11::arg("gradient"), pybind11::arg("mask"));
  module.def("learned_gradient", &learned_gradient<Runner>,
             ("The gradients of fake_quantize's input, scale and floating zero_point, " + by + ".")
                 .c_str(),
             pybind11::arg("gradient"), pybind11::arg("input"), pybind11::arg("scale"),
             pybind11::arg("zero_point") = pybind11::none());
}

}  // namespace strop
