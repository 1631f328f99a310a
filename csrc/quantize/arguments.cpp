#include "quantize/arguments.h"

#include <algorithm>
#include <cstdlib>

#include "core/argument_error.h"
#include "core/check.h"

namespace strop::quantize {
namespace {

// Whether shape broadcasts to the grid of blocks.
bool broadcasts(const QuantizeSpec& spec, const TensorView& input, const TensorView& parameter) {
  if (parameter.dims > input.dims) return false;
  for (int d = 0; d < parameter.dims; ++d) {
    const int axis = input.dims - parameter.dims + d;
    const std::int64_t size = parameter.shape[d];
    if (size != 1 && size != spec.blocks_of(axis, input)) return false;
  }
  return true;
}

void check_input(const char* op, const QuantizeSpec& spec, const TensorView& input) {
  if (!is_floating(input.dtype)) {
    throw_type_error(op, ": input has dtype ", dtype_name(input.dtype),
                     "; float32, bfloat16, float16 or float64 is needed");
  }
  if (input.dims > kMaxDims) {
    throw_value_error(op, ": input has ", input.dims, " dimensions; at most ", kMaxDims,
                      " are supported");
  }
  if (spec.has_block_size() && spec.block_dims != input.dims) {
    throw_value_error(op, ": block_size has ", spec.block_dims, " entries for a ", input.dims,
                      "-D tensor; give one per dimension, -1 for a whole axis");
  }
}

void check_scale(const char* op, const QuantizeSpec& spec, const FakeQuantizeTensors& t) {
  if (!t.scale.present) {
    if (!spec.format.bounded()) {
      throw_value_error(op, ": format ", spec.format.name, " is unbounded and needs a scale");
    }
    if (t.zero_point.present) {
      throw_value_error(op, ": zero_point is given without a scale; give both, or neither");
    }
    return;
  }
  if (spec.format.is_recipe()) {
    throw_value_error(op, ": scale is given; format ", spec.format.name,
                      " chooses its scales from the input");
  }
  if (t.zero_point.present && spec.format.grid != Grid::kInteger) {
    throw_value_error(op, ": zero_point is given; format ", spec.format.name, " has none");
  }
  const DType wanted = t.input.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  if (t.scale.dtype != wanted) {
    throw_type_error(op, ": scale has dtype ", dtype_name(t.scale.dtype), "; input of dtype ",
                     dtype_name(t.input.dtype), " needs ", dtype_name(wanted));
  }
  check_parameter(op, "scale", spec, t.input, t.scale);
  if (!t.zero_point.present) return;
  if (t.zero_point.dtype != wanted && !is_integer(t.zero_point.dtype)) {
    throw_type_error(op, ": zero_point has dtype ", dtype_name(t.zero_point.dtype),
                     "; input of dtype ", dtype_name(t.input.dtype), " needs an integer dtype or ",
                     dtype_name(wanted));
  }
  check_parameter(op, "zero_point", spec, t.input, t.zero_point);
}

void check_output(const char* op, const FakeQuantizeTensors& t) {
  const Argument out = {"out", t.output}, input = {"input", t.input};
  check_like(op, out, input);
  check_places(op, out);
  check_same_or_apart(op, out, input);
  check_apart(op, out, {"scale", t.scale});
  check_apart(op, out, {"zero_point", t.zero_point});
}

// The step of a parameter per block along an axis of input; 0 where it is broadcast.
std::int64_t parameter_step(const TensorView& parameter, int dims, int axis) {
  const int d = axis - (dims - parameter.dims);
  if (!parameter.present || d < 0 || parameter.shape[d] == 1) return 0;
  return parameter.stride[d];
}

}  // namespace

void check_parameter(const char* op, const char* name, const QuantizeSpec& spec,
                     const TensorView& input, const TensorView& parameter) {
  check_device(op, {name, parameter}, {"input", input});
  if (broadcasts(spec, input, parameter)) return;
  std::int64_t grid[kMaxDims];
  for (int d = 0; d < input.dims; ++d) grid[d] = spec.blocks_of(d, input);
  throw_value_error(op, ": ", name, " has shape ", shape_text(parameter.shape, parameter.dims),
                    "; input of shape ", shape_text(input.shape, input.dims),
                    " in these blocks needs ", shape_text(grid, input.dims),
                    " or what broadcasts to it");
}

void check_fake_quantize(const char* op, const QuantizeSpec& spec, const FakeQuantizeTensors& t,
                         bool has_seed) {
  check_input(op, spec, t.input);
  check_scale(op, spec, t);
  if (spec.rule.rounding == Rounding::kStochastic && !has_seed) {
    throw_value_error(op, ": rounding 'stochastic' needs a seed");
  }
  if (t.output.present) check_output(op, t);
}

FakeQuantizeArgs fake_quantize_args(const QuantizeSpec& spec, const FakeQuantizeTensors& t,
                                    std::uint64_t seed) {
  FakeQuantizeArgs args{};
  args.dtype = t.input.dtype;
  args.input = t.input.data;
  args.output = t.output.data;
  args.scale = t.scale.present ? t.scale.data : nullptr;
  args.zero_point = t.zero_point.present ? t.zero_point.data : nullptr;
  args.zero_point_dtype = t.zero_point.dtype;
  args.seed = seed;
  args.rule = spec.rule;
  args.dims = std::max(t.input.dims, 1);
  args.dim[0] = {
      .size = 1, .block = 1, .input = 1, .output = 1, .scale = 0, .zero_point = 0, .index = 1};
  std::int64_t index = 1;
  for (int d = t.input.dims - 1; d >= 0; --d) {
    const std::int64_t size = t.input.shape[d];
    args.dim[d] = {.size = size,
                   .block = spec.block_of(d, t.input),
                   .input = t.input.stride[d],
                   .output = t.output.stride[d],
                   .scale = parameter_step(t.scale, t.input.dims, d),
                   .zero_point = parameter_step(t.zero_point, t.input.dims, d),
                   .index = index};
    index *= std::max<std::int64_t>(size, 1);
  }
  return args;
}

}  // namespace strop::quantize
