// The kernels of pruning over numpy arrays, as the bindings of the CPU's have them.

#include "cuda/prune.h"

#include "cuda_host/device_arrays.h"
#include "cuda_host/module.h"
#include "python/prune_binding.h"

namespace strop::cuda_host {
namespace {

void run_on_host(PruneArgs args, const Launch& on) {
  DeviceArrays arrays;
  for (const PruneTensor& tensor : args.tensors) {
    const auto item = static_cast<std::size_t>(dtype_size(tensor.dtype));
    arrays.add({"weight", tensor.weight, item, {{tensor.count(), 1}}, Use::kInput});
    arrays.add({"mask", tensor.mask, 1, {{tensor.count(), 1}}, Use::kOutput});
  }
  arrays.upload();
  for (PruneTensor& tensor : args.tensors) {
    tensor.weight = arrays.at(tensor.weight);
    tensor.mask = arrays.at(tensor.mask);
  }
  cuda::prune(args, arrays.scratch("workspace", cuda::prune_workspace(args)), on);
  arrays.download();
}

void run_soft_threshold(SoftThresholdArgs args,
                        void (*kernel)(const SoftThresholdArgs&, const Launch&), const Launch& on) {
  DeviceArrays arrays;
  std::vector<ArrayDim> weight, amount, gradient, output;
  for (int d = 0; d < args.dims; ++d) {
    const SoftThresholdDim& dim = args.dim[d];
    weight.push_back({dim.size, dim.weight});
    amount.push_back({dim.amount == 0 && dim.size > 0 ? 1 : dim.size, dim.amount});
    gradient.push_back({dim.size, dim.gradient});
    output.push_back({dim.size, dim.output});
  }
  const auto item = static_cast<std::size_t>(dtype_size(args.dtype));
  const bool in_place = args.weight == args.output;
  arrays.add({"weight", args.weight, item, weight, Use::kInput});
  arrays.add({"amount", args.amount, item == 8 ? item : 4, amount, Use::kInput});
  arrays.add({"gradient", args.gradient, item, gradient, Use::kInput});
  arrays.add({"output", args.output, item, output, in_place ? Use::kUpdate : Use::kOutput});
  arrays.upload();
  args.weight = arrays.at(args.weight);
  args.amount = arrays.at(args.amount);
  args.gradient = arrays.at(args.gradient);
  args.output = arrays.at(args.output);
  kernel(args, on);
  arrays.download();
}

void run_on_host(const ShrinkArgs& args, const Launch& on) {
  run_soft_threshold(args, cuda::soft_threshold, on);
}
void run_on_host(const ShrinkGradientArgs& args, const Launch& on) {
  run_soft_threshold(args, cuda::soft_threshold_gradient, on);
}

void run_on_host(const PackMaskArgs& rows, const Launch& on) {
  run_byte_rows<MaskRows>(rows, rows.count, rows.bytes(), cuda::pack_mask, on);
}
void run_on_host(const UnpackMaskArgs& rows, const Launch& on) {
  run_byte_rows<MaskRows>(rows, rows.bytes(), rows.count, cuda::unpack_mask, on);
}

struct CudaHost {
  template <class Args>
  static void run(const Args& args) {
    const Turn turn;
    run_on_host(args, turn.launch());
  }
};

}  // namespace

void bind_prune(pybind11::module_& module) {
  bind_prune_ops<CudaHost>(module, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
