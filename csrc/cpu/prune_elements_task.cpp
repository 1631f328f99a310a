#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/prune.h"
#include "reference/prune.h"

namespace strop::cpu {
namespace {

// Elements that are worth waking a thread for, and bytes of an output that passes by the caches.
constexpr std::int64_t kGrain = 32768;
constexpr std::int64_t kStreamBytes = std::int64_t{4} << 20;

std::int64_t pieces_of(std::int64_t count) { return (count + kPrunePiece - 1) / kPrunePiece; }

std::int64_t grain_of(std::int64_t count) {
  return std::max<std::int64_t>(kGrain / std::clamp<std::int64_t>(count, 1, kPrunePiece), 1);
}

using Kernel = void (*)(const SoftThresholdTask&, std::int64_t, std::int64_t);

void run(const SoftThresholdArgs& original, const Parallel& parallel, Kernel kernel) {
  SoftThresholdArgs args = simplified(original);
  const auto number = static_cast<float>(args.number);
  if (args.amount == nullptr) args.amount = &number;
  const std::int64_t columns = args.inner().size;
  const bool in_place = args.output == args.weight || args.output == args.gradient;
  const SoftThresholdTask task = {
      .args = args,
      .row_pieces = pieces_of(columns),
      .stream = !in_place && args.count() * dtype_size(args.dtype) >= kStreamBytes};
  parallel.for_range(args.count() / columns * task.row_pieces, grain_of(columns),
                     [&](std::int64_t begin, std::int64_t end) { kernel(task, begin, end); });
}

void by_pieces(const MaskRows& rows, const Parallel& parallel,
               void (*kernel)(const MaskRows&, std::int64_t, std::int64_t)) {
  if (rows.rows * rows.count == 0) return;
  parallel.for_range(rows.rows * pieces_of(rows.count), 4 * grain_of(rows.count),
                     [&](std::int64_t begin, std::int64_t end) { kernel(rows, begin, end); });
}

}  // namespace

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

void soft_threshold(const SoftThresholdArgs& args, const Parallel& parallel) {
  soft_threshold(args, parallel, active_kernels().prune);
}

void soft_threshold(const SoftThresholdArgs& args, const Parallel& parallel,
                    const PruneKernels& kernels) {
  if (args.count() == 0) return;
  if (args.dtype == DType::kFloat64) return reference::soft_threshold(args);
  run(args, parallel, kernels.soft_threshold);
}

void soft_threshold_gradient(const SoftThresholdArgs& args, const Parallel& parallel) {
  soft_threshold_gradient(args, parallel, active_kernels().prune);
}

void soft_threshold_gradient(const SoftThresholdArgs& args, const Parallel& parallel,
                             const PruneKernels& kernels) {
  if (args.count() == 0) return;
  if (args.dtype == DType::kFloat64) return reference::soft_threshold_gradient(args);
  run(args, parallel, kernels.soft_threshold_gradient);
}

void pack_mask(const MaskRows& rows, const Parallel& parallel) {
  pack_mask(rows, parallel, active_kernels().prune);
}
void pack_mask(const MaskRows& rows, const Parallel& parallel, const PruneKernels& kernels) {
  by_pieces(rows, parallel, kernels.pack_mask);
}
void unpack_mask(const MaskRows& rows, const Parallel& parallel) {
  unpack_mask(rows, parallel, active_kernels().prune);
}
void unpack_mask(const MaskRows& rows, const Parallel& parallel, const PruneKernels& kernels) {
  by_pieces(rows, parallel, kernels.unpack_mask);
}

}  // namespace strop::cpu
