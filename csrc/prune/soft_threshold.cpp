#include "prune/soft_threshold.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/argument_error.h"
#include "core/check.h"

namespace strop::prune {
namespace {

bool broadcasts(const TensorView& amount, const TensorView& weight) {
  if (amount.dims > weight.dims) return false;
  for (int d = 0; d < amount.dims; ++d) {
    const std::int64_t size = weight.shape[weight.dims - amount.dims + d];
    if (amount.shape[d] != 1 && amount.shape[d] != size) return false;
  }
  return true;
}

void check_amount(const char* op, const TensorView& weight, const TensorView& amount) {
  const DType wanted = weight.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
  if (amount.dtype != wanted) {
    throw_type_error(op, ": amount has dtype ", dtype_name(amount.dtype), "; weight of dtype ",
                     dtype_name(weight.dtype), " needs ", dtype_name(wanted));
  }
  if (!broadcasts(amount, weight)) {
    throw_value_error(op, ": amount has shape ", shape_text(amount.shape, amount.dims),
                      ", which does not broadcast to weight's ",
                      shape_text(weight.shape, weight.dims));
  }
  check_device(op, {"amount", amount}, {"weight", weight});
}

void check_output(const char* op, const SoftThresholdTensors& t) {
  const Argument out = {"out", t.output}, weight = {"weight", t.weight};
  check_like(op, out, weight);
  check_places(op, out);
  check_same_or_apart(op, out, weight);
  check_apart(op, out, {"amount", t.amount});
}

// Whether outer and inner walk through memory as one axis would.
bool try_merge(SoftThresholdDim& outer, const SoftThresholdDim& inner) {
  const std::int64_t n = inner.size;
  if (outer.weight != n * inner.weight || outer.output != n * inner.output ||
      outer.amount != n * inner.amount || outer.gradient != n * inner.gradient) {
    return false;
  }
  const std::int64_t size = outer.size * n;
  outer = inner;
  outer.size = size;
  return true;
}

}  // namespace

void check_soft_threshold_amount(const char* op, double amount) {
  if (amount >= 0) return;  // NaN is not
  throw_value_error(op, ": amount is ", amount, "; it must be 0 or more");
}

void check_soft_threshold(const char* op, const SoftThresholdTensors& t) {
  if (!is_floating(t.weight.dtype)) {
    throw_type_error(op, ": weight has dtype ", dtype_name(t.weight.dtype),
                     "; float32, bfloat16, float16 or float64 is needed");
  }
  if (t.weight.dims > kMaxDims) {
    throw_value_error(op, ": weight has ", t.weight.dims, " dimensions; at most ", kMaxDims,
                      " are supported");
  }
  if (t.amount.present) check_amount(op, t.weight, t.amount);
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (t.weight.dtype != DType::kFloat64 && std::isfinite(t.number) && t.number > kLargest) {
    throw_value_error(op, ": amount is ", t.number, "; at most ", kLargest,
                      " is needed, for it is subtracted in float32");
  }
  if (t.gradient.present) check_like(op, {"gradient", t.gradient}, {"weight", t.weight});
  if (t.output.present) check_output(op, t);
}

SoftThresholdArgs soft_threshold_args(const SoftThresholdTensors& t) {
  SoftThresholdArgs args{.dtype = t.weight.dtype,
                         .weight = t.weight.data,
                         .amount = t.amount.present ? t.amount.data : nullptr,
                         .number = t.number,
                         .gradient = t.gradient.present ? t.gradient.data : nullptr,
                         .output = t.output.data,
                         .dims = std::max(t.weight.dims, 1),
                         .dim = {}};
  args.dim[0] = {1, 0, 0, 0, 0};  // of a tensor without dimensions
  for (int d = 0; d < t.weight.dims; ++d) {
    const int a = t.amount.present ? d - (t.weight.dims - t.amount.dims) : -1;
    args.dim[d] = {.size = t.weight.shape[d],
                   .weight = t.weight.stride[d],
                   .output = t.output.stride[d],
                   .amount = a < 0 || t.amount.shape[a] == 1 ? 0 : t.amount.stride[a],
                   .gradient = t.gradient.present ? t.gradient.stride[d] : 0};
  }
  return args;
}

SoftThresholdArgs simplified(SoftThresholdArgs args) {
  int kept = 0;
  for (int d = 0; d < args.dims; ++d) {
    if (args.dim[d].size != 1) args.dim[kept++] = args.dim[d];
  }
  if (kept == 0) args.dim[kept++] = {1, 0, 0, 0, 0};
  std::stable_sort(args.dim, args.dim + kept, [](const auto& a, const auto& b) {
    return std::abs(a.output) > std::abs(b.output);
  });
  int last = 0;
  for (int d = 1; d < kept; ++d) {
    if (!try_merge(args.dim[last], args.dim[d])) args.dim[++last] = args.dim[d];
  }
  args.dims = last + 1;
  return args;
}

}  // namespace strop::prune
