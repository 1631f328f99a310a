// The quantize kernels over numpy arrays, as the bindings of the CPU's have them.

#include "cuda_host/device_arrays.h"
#include "cuda_host/grid.h"
#include "cuda_host/module.h"
#include "quantize/numpy/ops.h"

namespace strop::cuda_host {
namespace {

using namespace strop::quantize;

std::size_t item(DType dtype) { return static_cast<std::size_t>(dtype_size(dtype)); }

// The arrays of a forward problem; in a gradient's, `output` is what the input's gradient goes to.
void add_forward(DeviceArrays& arrays, const FakeQuantizeArgs& args) {
  std::vector<ArrayDim> input, output, scale, zero_point;
  for (int d = 0; d < args.dims; ++d) {
    const QuantizeDim& dim = args.dim[d];
    input.push_back({dim.size, dim.input});
    output.push_back({dim.size, dim.output});
    scale.push_back({dim.blocks(), dim.scale});
    zero_point.push_back({dim.blocks(), dim.zero_point});
  }
  const bool in_place = args.input == args.output;
  const std::size_t scale_item = args.dtype == DType::kFloat64 ? 8 : 4;
  arrays.add({"input", args.input, item(args.dtype), input, Use::kInput});
  arrays.add(
      {"output", args.output, item(args.dtype), output, in_place ? Use::kUpdate : Use::kOutput});
  arrays.add({"scale", args.scale, scale_item, scale, Use::kInput});
  arrays.add({"zero_point", args.zero_point, item(args.zero_point_dtype), zero_point, Use::kInput});
  arrays.add({"mask", args.mask, 1, {{mask_bytes(args.elements()), 1}}, Use::kUpdate});
}

void move_forward(const DeviceArrays& arrays, FakeQuantizeArgs& args) {
  args.input = arrays.at(args.input);
  args.output = arrays.at(args.output);
  args.scale = arrays.at(args.scale);
  args.zero_point = arrays.at(args.zero_point);
  args.mask = arrays.at(args.mask);
}

void run_on_host(FakeQuantizeArgs args, const Launch& on) {
  DeviceArrays arrays;
  add_forward(arrays, args);
  arrays.upload();
  move_forward(arrays, args);
  run(args, arrays.scratch("workspace", workspace_bytes(args, on)), on);
  arrays.download();
}

void run_on_host(MaskedGradientArgs args, const Launch& on) {
  DeviceArrays arrays;
  const auto bytes = static_cast<std::size_t>(args.item_bytes);
  const std::vector<ArrayDim> dims = {{args.count, 1}};
  arrays.add({"gradient", args.gradient, bytes, dims, Use::kInput});
  arrays.add({"mask", args.mask, 1, {{mask_bytes(args.count), 1}}, Use::kInput});
  arrays.add({"output", args.output, bytes, dims, Use::kOutput});
  arrays.upload();
  args.gradient = arrays.at(args.gradient);
  args.mask = arrays.at(args.mask);
  args.output = arrays.at(args.output);
  run(args, on);
  arrays.download();
}

void run_on_host(LearnedGradientArgs args, const Launch& on) {
  DeviceArrays arrays;
  add_forward(arrays, args.forward);
  const std::size_t bytes = args.forward.dtype == DType::kFloat64 ? 8 : 4;
  arrays.add({"gradient",
              args.gradient,
              item(args.forward.dtype),
              {{args.forward.elements(), 1}},
              Use::kInput});
  arrays.add(
      {"the gradient of scale", args.scale_gradient, bytes, {{args.scale_count, 1}}, Use::kOutput});
  arrays.add({"the gradient of zero_point",
              args.zero_gradient,
              bytes,
              {{args.zero_count, 1}},
              Use::kOutput});
  arrays.upload();
  move_forward(arrays, args.forward);
  args.gradient = arrays.at(args.gradient);
  args.scale_gradient = arrays.at(args.scale_gradient);
  args.zero_gradient = arrays.at(args.zero_gradient);
  run(args, arrays.scratch("workspace", workspace_bytes(args, on)), on);
  arrays.download();
}

// Bytes that a problem's codes take.
std::int64_t code_bytes(const FakeQuantizeArgs& args, std::int64_t QuantizeDim::* step) {
  if (args.elements() == 0) return 0;
  std::int64_t bits = args.rule.bits;
  for (int d = 0; d < args.dims; ++d) bits += (args.dim[d].size - 1) * args.dim[d].*step;
  return (bits + 7) / 8;
}

std::size_t code_item(const FakeQuantizeArgs& args) { return args.rule.bits > 8 ? 2 : 1; }

Array codes_of(const FakeQuantizeArgs& args, const void* codes, std::int64_t QuantizeDim::* step,
               Use use) {
  const auto item_bytes = static_cast<std::int64_t>(code_item(args));
  return {"codes", codes, code_item(args), {{code_bytes(args, step) / item_bytes, 1}}, use};
}

std::size_t scale_item(const FakeQuantizeArgs& args, bool wide) {
  return args.rule.scales != ScaleKind::kAny ? 1 : wide ? 8 : 4;
}

void run_on_host(QuantizeArgs args, const Launch& on) {
  FakeQuantizeArgs& problem = args.problem;
  DeviceArrays arrays;
  std::vector<ArrayDim> input, scale, zero_point;
  std::int64_t blocks = problem.elements() == 0 ? 0 : 1;
  for (int d = 0; d < problem.dims; ++d) {
    const QuantizeDim& dim = problem.dim[d];
    input.push_back({dim.size, dim.input});
    scale.push_back({dim.blocks(), dim.scale});
    zero_point.push_back({dim.blocks(), dim.zero_point});
    blocks *= dim.blocks();
  }
  const bool wide = problem.dtype == DType::kFloat64;
  const std::size_t item_bytes = wide ? 8 : 4;
  arrays.add({"input", problem.input, item(problem.dtype), input, Use::kInput});
  arrays.add({"scale", problem.scale, item_bytes, scale, Use::kInput});
  arrays.add(
      {"zero_point", problem.zero_point, item(problem.zero_point_dtype), zero_point, Use::kInput});
  if (args.has_codes()) {
    arrays.add(codes_of(problem, problem.output, &QuantizeDim::output, Use::kOutput));
  }
  arrays.add({"the chosen scale",
              args.chosen.scale,
              scale_item(problem, wide),
              {{blocks, 1}},
              Use::kOutput});
  arrays.add({"the chosen zero_point", args.chosen.zero_point, 4, {{blocks, 1}}, Use::kOutput});
  arrays.add({"the tensor's scale", args.chosen.tensor_scale, item_bytes, {{1, 1}}, Use::kOutput});
  arrays.upload();
  problem.input = arrays.at(problem.input);
  problem.output = arrays.at(problem.output);
  problem.scale = arrays.at(problem.scale);
  problem.zero_point = arrays.at(problem.zero_point);
  args.chosen.scale = arrays.at(args.chosen.scale);
  args.chosen.zero_point = arrays.at(args.chosen.zero_point);
  args.chosen.tensor_scale = arrays.at(args.chosen.tensor_scale);
  run(args, arrays.scratch("workspace", workspace_bytes(args, on)), on);
  arrays.download();
}

void run_on_host(DequantizeArgs args, const Launch& on) {
  FakeQuantizeArgs& problem = args.problem;
  DeviceArrays arrays;
  std::vector<ArrayDim> output, scale, zero_point;
  for (int d = 0; d < problem.dims; ++d) {
    const QuantizeDim& dim = problem.dim[d];
    output.push_back({dim.size, dim.output});
    scale.push_back({dim.blocks(), dim.scale});
    zero_point.push_back({dim.blocks(), dim.zero_point});
  }
  arrays.add(codes_of(problem, problem.input, &QuantizeDim::input, Use::kInput));
  arrays.add({"output", problem.output, item(problem.dtype), output, Use::kOutput});
  arrays.add({"scale", problem.scale, scale_item(problem, args.wide), scale, Use::kInput});
  arrays.add(
      {"zero_point", problem.zero_point, item(problem.zero_point_dtype), zero_point, Use::kInput});
  arrays.add({"tensor_scale",
              problem.tensor_scale,
              args.wide ? std::size_t{8} : std::size_t{4},
              {{1, 1}},
              Use::kInput});
  arrays.upload();
  problem.input = arrays.at(problem.input);
  problem.output = arrays.at(problem.output);
  problem.scale = arrays.at(problem.scale);
  problem.zero_point = arrays.at(problem.zero_point);
  problem.tensor_scale = arrays.at(problem.tensor_scale);
  run(args, on);
  arrays.download();
}

void run_on_host(const PackArgs& rows, const Launch& on) {
  run_byte_rows(rows, rows.count, rows.bytes(), on);
}
void run_on_host(const UnpackArgs& rows, const Launch& on) {
  run_byte_rows(rows, rows.bytes(), rows.count, on);
}

constexpr auto kRun = [](const auto& args, const Launch& on) { run_on_host(args, on); };

}  // namespace

void bind_quantize(pybind11::module_& module) {
  bind(module, kQuantizeArrayOps<OnHost<kRun>>, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
