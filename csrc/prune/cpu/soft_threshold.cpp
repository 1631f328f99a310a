#include <algorithm>

#include "prune/kernels.h"

namespace strop::prune::cpu {
namespace {

// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 32768;

std::int64_t pieces_of(std::int64_t count) { return (count + kPrunePiece - 1) / kPrunePiece; }

std::int64_t grain_of(std::int64_t count) {
  return std::max<std::int64_t>(kGrain / std::clamp<std::int64_t>(count, 1, kPrunePiece), 1);
}

using Kernel = void (*)(const SoftThresholdTask&, std::int64_t, std::int64_t);

void by_pieces(const SoftThresholdArgs& original, const ExecutionOptions& options, Kernel kernel) {
  SoftThresholdArgs args = simplified(original);
  const auto number = static_cast<float>(args.number);
  if (args.amount == nullptr) args.amount = &number;
  const std::int64_t columns = args.inner().size;
  const bool in_place = args.output == args.weight || args.output == args.gradient;
  const SoftThresholdTask task = {
      .args = args,
      .row_pieces = pieces_of(columns),
      .stream = !in_place && args.count() * dtype_size(args.dtype) >= options.stream_bytes};
  options.parallel.for_range(
      args.count() / columns * task.row_pieces, grain_of(columns),
      [&](std::int64_t begin, std::int64_t end) { kernel(task, begin, end); });
}

}  // namespace

}  // namespace strop::prune::cpu

namespace strop::prune {

SoftThresholdRow SoftThresholdTask::row_at(std::int64_t row) const {
  SoftThresholdRow at;
  for (int d = args.dims - 2; d >= 0; --d) {
    const SoftThresholdDim& dim = args.dim[d];
    const std::int64_t i = row % dim.size;
    row /= dim.size;
    at.weight += i * dim.weight;
    at.output += i * dim.output;
    at.amount += i * dim.amount;
    at.gradient += i * dim.gradient;
  }
  return at;
}

// float64 runs the reference loops.
void run(const SoftThresholdArgs& args, const ExecutionOptions& options) {
  if (args.count() == 0) return;
  if (args.dtype == DType::kFloat64) return run(args, Oracle{});
  cpu::by_pieces(args, options, kernels(options.isa).soft_threshold);
}

void run(const SoftThresholdGradientArgs& args, const ExecutionOptions& options) {
  if (args.count() == 0) return;
  if (args.dtype == DType::kFloat64) return run(args, Oracle{});
  cpu::by_pieces(args, options, kernels(options.isa).soft_threshold_gradient);
}

}  // namespace strop::prune
