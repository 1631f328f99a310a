#include "python/quantize.h"

#include <optional>
#include <string>
#include <vector>

#include "cpu/quantize.h"
#include "kernels/quantize_arguments.h"
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

void run_kernel(const FakeQuantizeArgs& args) { cpu::fake_quantize(args, Parallel{}); }
void run_oracle(const FakeQuantizeArgs& args) {
  reference::fake_quantize(args, 0, reference::block_count(args));
}

template <void (*run)(const FakeQuantizeArgs&)>
py::object fake_quantize(const py::object& input, const py::object& scale,
                         const py::object& zero_point, const py::kwargs& options) {
  const char* op = kFakeQuantize;
  Keywords keywords(op, options);
  const QuantizeSpec spec = make_quantize_spec(op, take_request(keywords));
  const auto seed = keywords.take<std::optional<std::int64_t>>("seed", std::nullopt);
  const auto out = keywords.take<py::object>("out", py::none());
  keywords.finish();
  const ArrayView input_view(op, "input", input, false);
  const ArrayView scale_view(op, "scale", scale, false);
  const ArrayView zero_point_view(op, "zero_point", zero_point, false);
  FakeQuantizeTensors tensors = {.input = input_view.view(),
                                 .scale = scale_view.view(),
                                 .zero_point = zero_point_view.view(),
                                 .output = {}};
  check_fake_quantize(op, spec, tensors, seed.has_value());
  const py::object result =
      out.is_none() ? py::module_::import("numpy").attr("empty_like")(input) : out;
  const ArrayView output_view(op, "out", result, true);
  tensors.output = output_view.view();
  check_fake_quantize(op, spec, tensors, seed.has_value());
  const FakeQuantizeArgs args =
      fake_quantize_args(spec, tensors, static_cast<std::uint64_t>(seed.value_or(0)));
  {
    const py::gil_scoped_release release;
    run(args);
  }
  return result;
}

template <void (*run)(const FakeQuantizeArgs&)>
void bind_fake_quantize(py::module_& module, const char* doc) {
  module.def("fake_quantize", &fake_quantize<run>, doc, "input"_a, "scale"_a = py::none(),
             "zero_point"_a = py::none());
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
  bind_fake_quantize<run_kernel>(
      cpu,
      "strop.fake_quantize over numpy arrays, on the instruction set in force, in this thread.");
  bind_fake_quantize<run_oracle>(reference,
                                 "strop.fake_quantize over numpy arrays, by the reference loop.");
  root.def("intern_quantize_spec", &intern,
           "The index of the specification that fake_quantize's options are; -1 where the table is "
           "full.",
           "op"_a);
  root.def("number_formats", &formats, "(name, bits, min, max, signed) of every number format.");
}

}  // namespace strop
