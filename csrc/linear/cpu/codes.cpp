#include <algorithm>

#include "linear/cpu/calls.h"
#include "linear/cpu/scratch.h"
#include "linear/kernels.h"

namespace strop::linear::cpu {
namespace {

constexpr std::int64_t kRowsAtOnce = 1024;  // of x, so that what is kept of them stays small

std::int64_t items_a_grain(std::int64_t work) {
  return std::max<std::int64_t>(kGrain / std::max<std::int64_t>(work, 1), 1);
}

void run_rows(const CodedLinearArgs& args, const Parallel& parallel, const Kernels& kernels) {
  const CodesHeader& header = args.header();
  const bool exact = header.activations == Activations::kExact;
  const bool sums = !exact && (header.zeros != 0 || header.same_zero != 0);
  const auto prepare = exact ? kernels.widen_rows : kernels.quantize_rows;
  const auto multiply = exact ? kernels.multiply_exact : kernels.multiply_codes;
  const Scratch x(args.rows * header.places() * (exact ? 4 : 2));
  const Scratch scale(args.rows * 4), zero(args.rows * 4);
  const Scratch x_sums(sums ? args.rows * header.groups * 4 : 0);
  const Scratch finite(header.masks != 0 ? args.rows : 0);
  const CodesTask task = {.args = args,
                          .x = x.at<void>(),
                          .x_scale = scale.at<float>(),
                          .x_zero = zero.at<std::int32_t>(),
                          .x_sums = sums ? x_sums.at<std::int32_t>() : nullptr,
                          .x_finite = finite.at<bool>()};
  parallel.for_range(args.rows, items_a_grain(header.columns * 8),
                     [&](std::int64_t begin, std::int64_t end) { prepare(task, begin, end); });
  const std::int64_t rows = std::min(args.rows, kCodesRowBlock);
  parallel.for_range(task.row_blocks() * header.panels(),
                     items_a_grain(rows * header.columns * kPanelRows),
                     [&](std::int64_t begin, std::int64_t end) {
                       const Scratch scratch(kCodesScratch);
                       multiply(task, scratch.at<std::uint8_t>(), begin, end);
                     });
}

}  // namespace
}  // namespace strop::linear::cpu

namespace strop::linear {

void run(const CodedLinearArgs& args, const ExecutionOptions& options) {
  const CodesHeader& header = args.header();
  if (args.rows == 0 || header.rows == 0) return;
  cpu::with_kernels(args, header.rows, options,
                    [&](const CodedLinearArgs& given, const Kernels& kernels) {
                      for (std::int64_t row = 0; row < given.rows; row += cpu::kRowsAtOnce) {
                        const std::int64_t count = std::min(cpu::kRowsAtOnce, given.rows - row);
                        cpu::run_rows(cpu::rows_of(given, row, count), options.parallel, kernels);
                      }
                    });
}

}  // namespace strop::linear
