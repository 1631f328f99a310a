#include "python/quantize.h"

#include <optional>
#include <string>
#include <vector>

#include "cpu/quantize.h"
#include "cpu/quantize_gradient.h"
#include "kernels/quantize_gradient_arguments.h"
#include "python/array_view.h"
#include "python/keywords.h"
#include "reference/quantize.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop {
namespace {

constexpr const char* kFakeQuantize = "strop.fake_quantize";

QuantizeRequest take_request(Keywords& keywords) {
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

py::object empty_like(const py::object& array) {
  return py::module_::import("numpy").attr("empty_like")(array);
}

// What runs: the kernels, or the oracle.
struct Kernels {
  static void run(const FakeQuantizeArgs& args) { cpu::fake_quantize(args, Parallel{}); }
  static void run(const MaskedGradientArgs& args) { cpu::masked_gradient(args, Parallel{}); }
  static void run(const LearnedGradientArgs& args) { cpu::learned_gradient(args, Parallel{}); }
};
struct Oracle {
  static void run(const FakeQuantizeArgs& args) {
    reference::fake_quantize(args, 0, reference::block_count(args));
  }
  static void run(const MaskedGradientArgs& args) { reference::masked_gradient(args); }
  static void run(const LearnedGradientArgs& args) { reference::learned_gradient(args); }
};

template <class Runner, class Args>
void run_without_gil(const Args& args) {
  const py::gil_scoped_release release;
  Runner::run(args);
}

template <class Runner>
py::object fake_quantize(const py::object& input, const py::object& scale,
                         const py::object& zero_point, const py::kwargs& options) {
  const char* op = kFakeQuantize;
  Keywords keywords(op, options);
  const QuantizeSpec spec = make_quantize_spec(op, take_request(keywords));
  const auto seed = keywords.take<std::optional<std::int64_t>>("seed", std::nullopt);
  const auto out = keywords.take<py::object>("out", py::none());
  const auto mask = keywords.take<py::object>("mask", py::none());
  keywords.finish();
  const ArrayView input_view(op, "input", input, false);
  const ArrayView scale_view(op, "scale", scale, false);
  const ArrayView zero_point_view(op, "zero_point", zero_point, false);
  FakeQuantizeTensors tensors = {.input = input_view.view(),
                                 .scale = scale_view.view(),
                                 .zero_point = zero_point_view.view(),
                                 .output = {}};
  check_fake_quantize(op, spec, tensors, seed.has_value());
  const py::object result = out.is_none() ? empty_like(input) : out;
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
py::object masked_gradient(const py::object& gradient, const py::object& mask) {
  const char* op = "strop.masked_gradient";
  const ArrayView gradient_view(op, "gradient", gradient, false);
  const ArrayView mask_view(op, "mask", mask, false);
  MaskedGradientTensors tensors = {
      .gradient = gradient_view.view(), .mask = mask_view.view(), .output = {}};
  check_masked_gradient(op, tensors);
  const py::object result = empty_like(gradient);
  const ArrayView output_view(op, "out", result, true);
  tensors.output = output_view.view();
  run_without_gil<Runner>(masked_gradient_args(tensors));
  return result;
}

// (of input, of scale, of zero_point or None)
template <class Runner>
py::tuple learned_gradient(const py::object& gradient, const py::object& input,
                           const py::object& scale, const py::object& zero_point,
                           const py::kwargs& options) {
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
  const py::object results[] = {empty_like(input), empty_like(scale),
                                learns_zero ? empty_like(zero_point) : py::none()};
  const ArrayView made[] = {{op, "the gradient of input", results[0], true},
                            {op, "the gradient of scale", results[1], true},
                            {op, "the gradient of zero_point", results[2], true}};
  tensors.forward.output = made[0].view();
  tensors.scale_gradient = made[1].view();
  tensors.zero_gradient = made[2].view();
  run_without_gil<Runner>(
      learned_gradient_args(spec, tensors, static_cast<std::uint64_t>(seed.value_or(0)), factor));
  return py::make_tuple(results[0], results[1], results[2]);
}

template <class Runner>
void bind_ops(py::module_& module, const std::string& by) {
  module.def("fake_quantize", &fake_quantize<Runner>,
             ("strop.fake_quantize over numpy arrays, " + by +
              "; with mask=, bits of 0, also which codes were in range.")
                 .c_str(),
             "input"_a, "scale"_a = py::none(), "zero_point"_a = py::none());
  module.def("masked_gradient", &masked_gradient<Runner>,
             ("The gradient of fake_quantize where its mask lets it pass, " + by + ".").c_str(),
             "gradient"_a, "mask"_a);
  module.def("learned_gradient", &learned_gradient<Runner>,
             ("The gradients of fake_quantize's input, scale and floating zero_point, " + by + ".")
                 .c_str(),
             "gradient"_a, "input"_a, "scale"_a, "zero_point"_a = py::none());
}

int intern(const char* op, const py::kwargs& options) {
  Keywords keywords(op, options);
  const QuantizeRequest request = take_request(keywords);
  keywords.finish();
  return intern_quantize_spec(op, request);
}

py::list formats() {
  py::list result;
  for (const NumberFormat& format : number_formats()) {
    result.append(
        py::make_tuple(format.name, format.bits, format.min, format.max, format.is_signed));
  }
  return result;
}

}  // namespace

void bind_quantize(py::module_& root, py::module_& cpu, py::module_& reference) {
  bind_ops<Kernels>(cpu, "on the instruction set in force, in this thread");
  bind_ops<Oracle>(reference, "by the reference loop");
  root.def("intern_quantize_spec", &intern,
           "The index of the specification that fake_quantize's options are; -1 where the table is "
           "full.",
           "op"_a);
  root.def("number_formats", &formats, "(name, bits, min, max, signed) of every number format.");
}

}  // namespace strop
