#include "quantize/numpy/ops.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop::quantize {
namespace {

int intern(const char* op, const py::kwargs& options) {
  Arguments arguments(
      "intern_quantize_spec(format, block_size, rounding, symmetric, quant_min, quant_max, eps)",
      {}, options);
  NumpyCall<InForce> call(op, arguments);
  const QuantizeRequest request = take_quantize_request(call, QuantizeOptions::kAll);
  const int index = intern_quantize_spec(op, request);
  // An empty tuple is not None, but the block of a tensor without dimensions: the caller looks.
  const bool given = options.contains("block_size") && !options["block_size"].is_none();
  return given && request.block_size.empty() ? -1 : index;
}

py::list formats() {
  py::list result;
  for (const NumberFormat& format : number_formats()) {
    const bool integer = format.grid == Grid::kInteger;
    result.append(
        py::make_tuple(format.name, format.bits, format.min, format.max, format.block, integer));
  }
  return result;
}

std::vector<double> format_values(const std::string& name) {
  std::vector<double> values;
  const NumberFormat* format = find_number_format(name);
  if (format == nullptr) throw_value_error("strop.NumberFormat: ", unknown_format(name));
  for (int code = 0; code < 1 << format->bits; ++code) values.push_back(format->value(code));
  return values;
}

}  // namespace

void bind_arrays(pybind11::module_& root, py::module_& cpu, py::module_& reference) {
  bind(cpu, kQuantizeArrayOps<InForce>, "on the instruction set in force, in this thread");
  bind(reference, kQuantizeArrayOps<ByOracle>, "by the reference loop");
  root.def(
      "intern_quantize_spec", &intern,
      "The index of the specification that fake_quantize's options are; -1 where there is none, "
      "and an op has to be given the options.",
      "op"_a);
  root.def("number_formats", &formats,
           "(name, bits, min, max, block, whether integer) of every number format.");
  root.def("format_values", &format_values, "The values of a format's codes, in their order.",
           "name"_a);
  root.def("unknown_format", &unknown_format, "What to say of a name that is no format.", "name"_a);
}

}  // namespace strop::quantize
