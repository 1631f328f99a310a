#pragma once

#include <pybind11/numpy.h>

#include "kernels/quantize_codes_arguments.h"
#include "python/quantize_binding.h"

namespace strop {

// quantize and dequantize over numpy arrays, whoever runs them: a Runner has a static run() for
// QuantizeArgs and DequantizeArgs.

inline pybind11::object make_array(const std::vector<std::int64_t>& shape, DType dtype) {
  return pybind11::module_::import("numpy").attr("empty")(shape, dtype_name(dtype));
}

// (codes or None, scale or None, zero_point or None, tensor_scale or None): what was chosen.
template <class Runner>
pybind11::tuple quantize_with(const char* op, bool codes, const pybind11::object& input,
                              const pybind11::object& scale, const pybind11::object& zero_point,
                              const pybind11::kwargs& options) {
  Keywords keywords(op, options);
  const QuantizeSpec spec = make_quantize_spec(op, take_request(keywords));
  const auto seed = keywords.take<std::optional<std::int64_t>>("seed", std::nullopt);
  keywords.finish();
  const ArrayView views[] = {{op, "input", input, false},
                             {op, "scale", scale, false},
                             {op, "zero_point", zero_point, false}};
  const FakeQuantizeTensors forward = {.input = views[0].view(),
                                       .scale = views[1].view(),
                                       .zero_point = views[2].view(),
                                       .output = {}};
  check_quantize(op, spec, forward, seed.has_value() || !codes);
  const DType dtype = forward.input.dtype;
  const bool chosen = !forward.scale.present;
  const auto grid = blocks_shape(spec, forward.input);
  const bool zero = chosen && chooses_zero_point(spec);
  const bool two_levels = chosen && spec.format.scales == ScaleKind::kTwoLevels;
  const DType wide = dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  const pybind11::object none = pybind11::none();
  const pybind11::object made[] = {
      codes ? make_array(codes_shape(spec, forward.input), codes_dtype(spec)) : none,
      chosen ? make_array(grid, chosen_scale_dtype(spec, dtype)) : none,
      zero ? make_array(grid, DType::kInt32) : none, two_levels ? make_array({}, wide) : none};
  const ArrayView results[] = {{op, "codes", made[0], true},
                               {op, "scale", made[1], true},
                               {op, "zero_point", made[2], true},
                               {op, "tensor_scale", made[3], true}};
  const QuantizeTensors tensors = {.forward = forward,
                                   .codes = results[0].view(),
                                   .chosen_scale = results[1].view(),
                                   .chosen_zero_point = results[2].view(),
                                   .chosen_tensor_scale = results[3].view()};
  run_without_gil<Runner>(
      quantize_args(spec, tensors, static_cast<std::uint64_t>(seed.value_or(0))));
  return pybind11::make_tuple(made[0], made[1], made[2], made[3]);
}

template <class Runner>
pybind11::tuple quantize(const pybind11::object& input, const pybind11::object& scale,
                         const pybind11::object& zero_point, const pybind11::kwargs& options) {
  return quantize_with<Runner>("strop.quantize", true, input, scale, zero_point, options);
}

template <class Runner>
pybind11::tuple choose_scale(const pybind11::object& input, const pybind11::kwargs& options) {
  const pybind11::object none = pybind11::none();
  return quantize_with<Runner>("strop.choose_scale", false, input, none, none, options);
}

template <class Runner>
pybind11::object dequantize(const pybind11::object& codes, const pybind11::object& scale,
                            const pybind11::object& zero_point,
                            const pybind11::object& tensor_scale, const pybind11::kwargs& options) {
  const char* op = "strop.dequantize";
  Keywords keywords(op, options);
  const auto shape = keywords.take<std::vector<std::int64_t>>("shape", {});
  const auto dtype = keywords.take<pybind11::object>("dtype", pybind11::str("float32"));
  const auto out = keywords.take<pybind11::object>("out", pybind11::none());
  const QuantizeSpec spec = make_quantize_spec(op, take_request(keywords));
  keywords.finish();
  const pybind11::object result =
      out.is_none() ? pybind11::module_::import("numpy").attr("empty")(shape, dtype) : out;
  const ArrayView views[] = {{op, "codes", codes, false},
                             {op, "scale", scale, false},
                             {op, "zero_point", zero_point, false},
                             {op, "tensor_scale", tensor_scale, false},
                             {op, "out", result, true}};
  const DequantizeTensors tensors = {.codes = views[0].view(),
                                     .scale = views[1].view(),
                                     .zero_point = views[2].view(),
                                     .tensor_scale = views[3].view(),
                                     .output = views[4].view()};
  check_dequantize(op, spec, tensors);
  run_without_gil<Runner>(dequantize_args(spec, tensors));
  return result;
}

template <class Runner>
pybind11::object pack_bits(const pybind11::object& codes, std::int64_t bits) {
  const char* op = "strop.pack_bits";
  const ArrayView from(op, "codes", codes, false);
  const TensorView view = from.view();
  check_pack(op, view, bits);
  if (!is_contiguous(view)) throw_value_error(op, ": codes is not contiguous");
  std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
  const BitRows rows = bit_rows(view.shape, view.dims, bits);
  shape.back() = rows.bytes();
  const pybind11::object result = make_array(shape, DType::kUInt8);
  const ArrayView to(op, "out", result, true);
  run_without_gil<Runner>(PackArgs{with_data(rows, view.data, to.view().data)});
  return result;
}

template <class Runner>
pybind11::object unpack_bits(const pybind11::object& packed, std::int64_t bits,
                             std::int64_t count) {
  const char* op = "strop.unpack_bits";
  const ArrayView from(op, "packed", packed, false);
  const TensorView view = from.view();
  check_unpack(op, view, bits, count);
  if (!is_contiguous(view)) throw_value_error(op, ": packed is not contiguous");
  std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
  shape.back() = count;
  const pybind11::object result = make_array(shape, DType::kUInt8);
  const ArrayView to(op, "out", result, true);
  const BitRows rows = bit_rows(shape.data(), view.dims, bits);
  run_without_gil<Runner>(UnpackArgs{with_data(rows, view.data, to.view().data)});
  return result;
}

template <class Runner>
void bind_quantize_code_ops(pybind11::module_& module, const std::string& by) {
  const auto none = pybind11::none();
  module.def("quantize", &quantize<Runner>,
             ("(codes, scale, zero_point, tensor_scale) of strop.quantize, " + by +
              "; None for what is not chosen.")
                 .c_str(),
             pybind11::arg("input"), pybind11::arg("scale") = none,
             pybind11::arg("zero_point") = none);
  module.def("choose_scale", &choose_scale<Runner>, ("The same without codes, " + by + ".").c_str(),
             pybind11::arg("input"));
  module.def("dequantize", &dequantize<Runner>,
             ("strop.dequantize over numpy arrays, " + by + ".").c_str(), pybind11::arg("codes"),
             pybind11::arg("scale"), pybind11::arg("zero_point") = none,
             pybind11::arg("tensor_scale") = none);
  module.def("pack_bits", &pack_bits<Runner>,
             ("strop.pack_bits over numpy arrays, " + by + ".").c_str(), pybind11::arg("codes"),
             pybind11::arg("bits"));
  module.def("unpack_bits", &unpack_bits<Runner>,
             ("strop.unpack_bits over numpy arrays, " + by + ".").c_str(), pybind11::arg("packed"),
             pybind11::arg("bits"), pybind11::arg("count"));
}

}  // namespace strop
