// The quantize kernels over numpy arrays, as the bindings of the CPU's have them.

#include "cuda/quantize.h"

#include "cuda_host/device_arrays.h"
#include "cuda_host/grid.h"
#include "cuda_host/module.h"
#include "kernels/quantize_gradient_arguments.h"
#include "python/quantize_binding.h"

namespace strop::cuda_host {
namespace {

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
  cuda::fake_quantize(args, arrays.scratch("workspace", cuda::fake_quantize_workspace(args, on)),
                      on);
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
  cuda::masked_gradient(args, on);
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
  cuda::learned_gradient(args, arrays.scratch("workspace", cuda::learned_gradient_workspace(args)),
                         on);
  arrays.download();
}

struct CudaHost {
  template <class Args>
  static void run(const Args& args) {
    const Turn turn;
    run_on_host(args, turn.launch());
  }
};

}  // namespace

void bind_quantize(pybind11::module_& module) {
  bind_quantize_ops<CudaHost>(module, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
