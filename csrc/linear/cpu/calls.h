#pragma once

#include <vector>

#include "core/dtype.h"
#include "linear/kernels.h"

namespace strop::linear::cpu {

// Calls run(args, kernels) with a bias of float32, as kernels take it, and the kernels of the set
// that the arguments name, or else the options.
template <class Args, class Run>
void with_kernels(const Args& args, std::int64_t outputs, const ExecutionOptions& options,
                  Run run) {
  Args given = args;
  std::vector<float> bias;
  if (args.bias != nullptr && args.bias_dtype != DType::kFloat32) {
    bias.resize(static_cast<std::size_t>(outputs));
    by_narrow_dtype(args.bias_dtype, [&]<class T>() {
      const T* const from = static_cast<const T*>(args.bias);
      for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = to_float(from[i]);
    });
    given.bias = bias.data();
    given.bias_dtype = DType::kFloat32;
  }
  run(given, kernels(args.isa == Isa::kActive ? options.isa : args.isa));
}

// Rows [first, first + count) of a product.
template <class Args>
Args rows_of(const Args& args, std::int64_t first, std::int64_t count) {
  Args part = args;
  part.rows = count;
  const std::int64_t item = dtype_size(args.dtype);
  part.x = static_cast<const std::uint8_t*>(args.x) + first * args.x_stride * item;
  part.y = static_cast<std::uint8_t*>(args.y) + first * args.y_stride * item;
  return part;
}

}  // namespace strop::linear::cpu
