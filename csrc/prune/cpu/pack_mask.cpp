#include <algorithm>

#include "prune/kernels.h"

namespace strop::prune::cpu {
namespace {

// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 131072;

void by_pieces(const MaskRows& rows, const Parallel& parallel,
               void (*kernel)(const MaskRows&, std::int64_t, std::int64_t)) {
  if (rows.rows * rows.count == 0) return;
  const std::int64_t pieces = (rows.count + kPrunePiece - 1) / kPrunePiece;
  const std::int64_t grain = std::max<std::int64_t>(kGrain / std::min(rows.count, kPrunePiece), 1);
  parallel.for_range(rows.rows * pieces, grain,
                     [&](std::int64_t begin, std::int64_t end) { kernel(rows, begin, end); });
}

}  // namespace
}  // namespace strop::prune::cpu

namespace strop::prune {

void run(const PackMaskArgs& rows, const ExecutionOptions& options) {
  cpu::by_pieces(rows, options.parallel, kernels(options.isa).pack_mask);
}

void run(const UnpackMaskArgs& rows, const ExecutionOptions& options) {
  cpu::by_pieces(rows, options.parallel, kernels(options.isa).unpack_mask);
}

}  // namespace strop::prune
