// The kernels of pruning over numpy arrays, as the bindings of the CPU's have them.

#include "cuda_host/device_arrays.h"
#include "cuda_host/module.h"
#include "prune/numpy/ops.h"

namespace strop::cuda_host {
namespace {

using namespace strop::prune;

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
  run(args, arrays.scratch("workspace", workspace_bytes(args, on)), on);
  arrays.download();
}

// Of the forward's arguments or the gradient's.
template <class Args>
  requires std::derived_from<Args, SoftThresholdArgs>
void run_on_host(Args args, const Launch& on) {
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
  run(args, on);
  arrays.download();
}

template <class Args>
  requires std::derived_from<Args, MaskRows>
void run_on_host(const Args& rows, const Launch& on) {
  constexpr bool kPacks = std::is_same_v<Args, PackMaskArgs>;
  run_byte_rows(rows, kPacks ? rows.count : rows.bytes(), kPacks ? rows.bytes() : rows.count, on);
}

constexpr auto kRun = [](const auto& args, const Launch& on) { run_on_host(args, on); };

}  // namespace

void bind_prune(pybind11::module_& module) {
  bind(module, kPruneArrayOps<OnHost<kRun>>, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
