#include "quantize/codes_arguments.h"

#include <algorithm>

#include "core/argument_error.h"
#include "core/check.h"

namespace strop::quantize {
namespace {

void check_stored(const char* op, const QuantizeSpec& spec) {
  if (spec.format.bounded()) return;
  throw_value_error(op, ": format ", spec.format.name, " has no codes that could be stored; ",
                    "fake_quantize knows it");
}

// Steps of the codes, in bits.
void step_codes(const QuantizeSpec& spec, const TensorView& shaped, FakeQuantizeArgs& args,
                std::int64_t QuantizeDim::* member) {
  const int bits = spec.format.bits;
  args.dim[args.dims - 1].*member = bits;
  if (shaped.dims == 0) return;
  std::int64_t step = 8 * code_row_bytes(shaped.shape[shaped.dims - 1], bits);
  for (int d = shaped.dims - 2; d >= 0; --d) {
    args.dim[d].*member = step;
    step *= std::max<std::int64_t>(shaped.shape[d], 1);
  }
}

// Steps of the chosen parameters, which lie as the blocks do.
void step_blocks(FakeQuantizeArgs& args) {
  std::int64_t step = 1;
  for (int d = args.dims - 1; d >= 0; --d) {
    args.dim[d].scale = args.dim[d].zero_point = step;
    step *= std::max<std::int64_t>(args.dim[d].blocks(), 1);
  }
}

}  // namespace

std::vector<std::int64_t> codes_shape(const QuantizeSpec& spec, const TensorView& input) {
  std::vector<std::int64_t> shape(input.shape, input.shape + input.dims);
  if (spec.format.bits > 8) return shape;
  if (shape.empty()) shape.push_back(1);
  shape.back() = code_row_bytes(shape.back(), spec.format.bits);
  return shape;
}

std::vector<std::int64_t> blocks_shape(const QuantizeSpec& spec, const TensorView& input) {
  std::vector<std::int64_t> shape;
  for (int d = 0; d < input.dims; ++d) shape.push_back(spec.blocks_of(d, input));
  return shape;
}

DType codes_dtype(const QuantizeSpec& spec) {
  return spec.format.bits > 8 ? DType::kInt16 : DType::kUInt8;
}

DType chosen_scale_dtype(const QuantizeSpec& spec, DType input) {
  if (spec.format.scales != ScaleKind::kAny) return DType::kUInt8;
  return input == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

bool chooses_zero_point(const QuantizeSpec& spec) {
  return !spec.rule.symmetric || spec.rule.zero_point != 0;
}

void check_quantize(const char* op, const QuantizeSpec& spec, const FakeQuantizeTensors& tensors,
                    bool has_seed) {
  check_stored(op, spec);
  check_fake_quantize(op, spec, tensors, has_seed);
}

QuantizeArgs quantize_args(const QuantizeSpec& spec, const QuantizeTensors& t, std::uint64_t seed) {
  FakeQuantizeTensors forward = t.forward;
  forward.output = forward.input;  // of its shape; the steps follow
  QuantizeArgs args{};
  args.problem = fake_quantize_args(spec, forward, seed);
  args.problem.output = t.codes.present ? t.codes.data : nullptr;
  args.format = spec.format;
  step_codes(spec, t.forward.input, args.problem, &QuantizeDim::output);
  if (args.problem.dynamic()) step_blocks(args.problem);
  const auto data = [](const TensorView& view) { return view.present ? view.data : nullptr; };
  args.chosen = {data(t.chosen_scale), static_cast<std::int32_t*>(data(t.chosen_zero_point)),
                 data(t.chosen_tensor_scale)};
  return args;
}

void check_dequantize_dtype(const char* op, DType dtype) {
  if (is_floating(dtype)) return;
  throw_type_error(op, ": dtype is ", dtype_name(dtype),
                   "; float32, bfloat16, float16 or float64 is needed");
}

static void check_restored(const char* op, const DequantizeTensors& t) {
  const Argument out = {"out", t.output};
  check_places(op, out);
  check_apart(op, out, {"codes", t.codes});
  check_apart(op, out, {"scale", t.scale});
  check_apart(op, out, {"zero_point", t.zero_point});
  check_apart(op, out, {"tensor_scale", t.tensor_scale});
}

static void check_tensor_scale(const char* op, const QuantizeSpec& spec,
                               const DequantizeTensors& t) {
  const bool two_levels = spec.format.scales == ScaleKind::kTwoLevels;
  if (t.tensor_scale.present != two_levels) {
    throw_value_error(op, ": tensor_scale is ", two_levels ? "missing" : "given", "; format ",
                      spec.format.name, two_levels ? " needs one" : " has none");
  }
  if (!two_levels) return;
  const DType dtype = t.tensor_scale.dtype;
  if (dtype != DType::kFloat32 && dtype != DType::kFloat64) {
    throw_type_error(op, ": tensor_scale has dtype ", dtype_name(dtype), "; float32 is needed");
  }
  if (t.tensor_scale.numel() != 1) {
    throw_value_error(op, ": tensor_scale has shape ",
                      shape_text(t.tensor_scale.shape, t.tensor_scale.dims),
                      "; one element is needed");
  }
  check_device(op, {"tensor_scale", t.tensor_scale}, {"codes", t.codes});
}

void check_dequantize(const char* op, const QuantizeSpec& spec, const DequantizeTensors& t) {
  check_stored(op, spec);
  const TensorView& out = t.output;
  check_dequantize_dtype(op, out.dtype);
  check_restored(op, t);
  if (spec.has_block_size() && spec.block_dims != out.dims) {
    throw_value_error(op, ": block_size has ", spec.block_dims, " entries for a ", out.dims,
                      "-D tensor; give one per dimension, -1 for a whole axis");
  }
  const Argument codes = {"codes", t.codes};
  check_dtype(op, codes, codes_dtype(spec));
  check_shape(op, codes, codes_shape(spec, out));
  check_device(op, codes, {"out", out});
  check_contiguous(op, codes);
  const bool bytes = spec.format.scales != ScaleKind::kAny;
  const bool wide = t.scale.dtype == DType::kFloat64;
  const DType wanted = bytes ? DType::kUInt8 : wide ? DType::kFloat64 : DType::kFloat32;
  if (t.scale.dtype != wanted) {
    throw_type_error(op, ": scale has dtype ", dtype_name(t.scale.dtype), "; format ",
                     spec.format.name, " needs ", bytes ? "uint8" : "float32 or float64");
  }
  check_parameter(op, "scale", spec, out, t.scale);
  if (t.zero_point.present) {
    if (spec.format.grid != Grid::kInteger) {
      throw_value_error(op, ": zero_point is given; format ", spec.format.name, " has none");
    }
    if (t.zero_point.dtype != wanted && !is_integer(t.zero_point.dtype)) {
      throw_type_error(op, ": zero_point has dtype ", dtype_name(t.zero_point.dtype),
                       "; an integer dtype or ", dtype_name(wanted), " is needed");
    }
    check_parameter(op, "zero_point", spec, out, t.zero_point);
  }
  check_tensor_scale(op, spec, t);
}

DequantizeArgs dequantize_args(const QuantizeSpec& spec, const DequantizeTensors& t) {
  const FakeQuantizeTensors forward = {
      .input = t.output, .scale = t.scale, .zero_point = t.zero_point, .output = t.output};
  DequantizeArgs args{};
  args.problem = fake_quantize_args(spec, forward, 0);
  args.problem.input = t.codes.data;
  args.problem.tensor_scale = t.tensor_scale.present ? t.tensor_scale.data : nullptr;
  args.format = spec.format;
  args.wide = t.scale.dtype == DType::kFloat64 ||
              (t.tensor_scale.present && t.tensor_scale.dtype == DType::kFloat64) ||
              (spec.format.scales == ScaleKind::kPowerOfTwo && t.output.dtype == DType::kFloat64);
  step_codes(spec, t.output, args.problem, &QuantizeDim::input);
  return args;
}

namespace {

void check_bytes(const char* op, const char* name, const TensorView& tensor, std::int64_t bits) {
  if (tensor.dtype != DType::kUInt8 && tensor.dtype != DType::kInt8) {
    throw_type_error(op, ": ", name, " has dtype ", dtype_name(tensor.dtype), "; uint8 is needed");
  }
  if (bits < 1 || bits > 8) throw_value_error(op, ": bits is ", bits, "; 1 to 8 are possible");
  if (tensor.dims == 0) throw_value_error(op, ": ", name, " has no dimension to pack along");
}

}  // namespace

void check_pack(const char* op, const TensorView& codes, std::int64_t bits) {
  check_bytes(op, "codes", codes, bits);
}

void check_unpack(const char* op, const TensorView& packed, std::int64_t bits, std::int64_t count) {
  check_bytes(op, "packed", packed, bits);
  if (count < 0) throw_value_error(op, ": count is ", count, "; it cannot be negative");
  const std::int64_t bytes = packed.shape[packed.dims - 1];
  const std::int64_t needed = code_row_bytes(count, static_cast<int>(bits));
  if (bytes != needed) {
    throw_value_error(op, ": packed has rows of ", bytes, " bytes; ", count, " codes of ", bits,
                      " bits take ", needed);
  }
}

void check_unpack_out(const char* op, const TensorView& packed, std::int64_t count,
                      const TensorView& view) {
  const Argument out = {"out", view}, from = {"packed", packed};
  std::vector<std::int64_t> shape(packed.shape, packed.shape + packed.dims);
  shape.back() = count;
  check_dtype(op, out, DType::kUInt8);
  check_shape(op, out, shape);
  check_contiguous(op, out);
  check_device(op, out, from);
  check_apart(op, out, from);
}

BitRows bit_rows(const std::int64_t* shape, int dims, std::int64_t bits, const void* from,
                 void* to) {
  BitRows rows = {
      .from = from, .to = to, .rows = 1, .count = shape[dims - 1], .bits = static_cast<int>(bits)};
  for (int d = 0; d + 1 < dims; ++d) rows.rows *= shape[d];
  return rows;
}

}  // namespace strop::quantize
