#include "python/quantize.h"

#include "cpu/quantize.h"
#include "cpu/quantize_codes.h"
#include "cpu/quantize_gradient.h"
#include "python/quantize_binding.h"
#include "python/quantize_codes_binding.h"
#include "reference/quantize.h"
#include "reference/quantize_codes.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop {
namespace {

// What runs: the kernels, or the oracle.
struct Kernels {
  static void run(const FakeQuantizeArgs& args) { cpu::fake_quantize(args, Parallel{}); }
  static void run(const MaskedGradientArgs& args) { cpu::masked_gradient(args, Parallel{}); }
  static void run(const LearnedGradientArgs& args) { cpu::learned_gradient(args, Parallel{}); }
  static void run(const QuantizeArgs& args) { cpu::quantize(args, Parallel{}); }
  static void run(const DequantizeArgs& args) { cpu::dequantize(args, Parallel{}); }
  static void run(const PackArgs& rows) { cpu::pack_bits(rows, Parallel{}); }
  static void run(const UnpackArgs& rows) { cpu::unpack_bits(rows, Parallel{}); }
};
struct Loops {
  static void run(const FakeQuantizeArgs& args) { reference::fake_quantize(args); }
  static void run(const MaskedGradientArgs& args) { reference::masked_gradient(args); }
  static void run(const LearnedGradientArgs& args) { reference::learned_gradient(args); }
  static void run(const QuantizeArgs& args) { reference::quantize(args); }
  static void run(const DequantizeArgs& args) { reference::dequantize(args); }
  static void run(const PackArgs& rows) { reference::pack_bits(rows); }
  static void run(const UnpackArgs& rows) { reference::unpack_bits(rows); }
};

int intern(const char* op, const py::kwargs& options) {
  Keywords keywords(op, options);
  const QuantizeRequest request = take_request(keywords);
  keywords.finish();
  return intern_quantize_spec(op, request);
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

void bind_quantize(py::module_& root, py::module_& cpu, py::module_& reference) {
  bind_quantize_ops<Kernels>(cpu, "on the instruction set in force, in this thread");
  bind_quantize_ops<Loops>(reference, "by the reference loop");
  bind_quantize_code_ops<Kernels>(cpu, "on the instruction set in force, in this thread");
  bind_quantize_code_ops<Loops>(reference, "by the reference loop");
  root.def("intern_quantize_spec", &intern,
           "The index of the specification that fake_quantize's options are; -1 where the table is "
           "full.",
           "op"_a);
  root.def("number_formats", &formats,
           "(name, bits, min, max, block, whether integer) of every number format.");
  root.def("format_values", &format_values, "The values of a format's codes, in their order.",
           "name"_a);
  root.def("unknown_format", &unknown_format, "What to say of a name that is no format.", "name"_a);
}

}  // namespace strop
