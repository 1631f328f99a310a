#include "python/quantize.h"

#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "cpu/quantize.h"
#include "kernels/quantize_arguments.h"
#include "python/array_view.h"
#include "reference/quantize.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop {
namespace {

constexpr const char* kFakeQuantize = "strop.fake_quantize";

using BlockSize = std::optional<std::vector<std::int64_t>>;

QuantizeRequest request_of(const std::string& format, const BlockSize& block_size,
                           const std::string& rounding, bool symmetric,
                           std::optional<std::int64_t> quant_min,
                           std::optional<std::int64_t> quant_max, std::optional<double> eps) {
  return {.format = format,
          .whole = !block_size,
          .block_size = block_size.value_or(std::vector<std::int64_t>{}),
          .rounding = rounding,
          .symmetric = symmetric,
          .quant_min = quant_min,
          .quant_max = quant_max,
          .eps = eps};
}

void run_kernel(const FakeQuantizeArgs& args) { cpu::fake_quantize(args, Parallel{}); }
void run_oracle(const FakeQuantizeArgs& args) {
  reference::fake_quantize(args, 0, reference::block_count(args));
}

template <void (*run)(const FakeQuantizeArgs&)>
py::object fake_quantize(const py::object& input, const py::object& scale,
                         const py::object& zero_point, const std::string& format,
                         const BlockSize& block_size, const std::string& rounding, bool symmetric,
                         std::optional<std::int64_t> quant_min,
                         std::optional<std::int64_t> quant_max, std::optional<double> eps,
                         std::optional<std::int64_t> seed, const py::object& out) {
  const char* op = kFakeQuantize;
  const QuantizeSpec spec = make_quantize_spec(
      op, request_of(format, block_size, rounding, symmetric, quant_min, quant_max, eps));
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
             "zero_point"_a = py::none(), py::kw_only(), "format"_a = "int8",
             "block_size"_a = py::none(), "rounding"_a = "half_even", "symmetric"_a = true,
             "quant_min"_a = py::none(), "quant_max"_a = py::none(), "eps"_a = py::none(),
             "seed"_a = py::none(), "out"_a = py::none());
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
  root.def(
      "intern_quantize_spec",
      [](const char* op, const std::string& format, const BlockSize& block_size,
         const std::string& rounding, bool symmetric, std::optional<std::int64_t> quant_min,
         std::optional<std::int64_t> quant_max, std::optional<double> eps) {
        return intern_quantize_spec(
            op, request_of(format, block_size, rounding, symmetric, quant_min, quant_max, eps));
      },
      "The index of a quantize specification; -1 where the table is full.", "op"_a, "format"_a,
      "block_size"_a, "rounding"_a, "symmetric"_a, "quant_min"_a, "quant_max"_a, "eps"_a);
  root.def("number_formats", &formats, "(name, bits, min, max, signed) of every number format.");
}

}  // namespace strop
