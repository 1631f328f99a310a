#include <algorithm>
#include <cstring>
#include <vector>

#include "prune/cpu/selection.h"
#include "prune/kernels.h"

namespace strop::prune::cpu {
namespace {

using Cut32 = Cut<std::uint32_t>;

// Elements that are worth waking a thread for.
constexpr std::int64_t kGrain = 65536;
// What no key reaches.
constexpr std::uint32_t kEverything = 0x80000000u;

Cut32 cut_of(const PruneRule& rule, const std::vector<WeightRun>& runs, const Parallel& parallel,
             const Kernels& kernels) {
  if (rule.has_threshold) {
    const auto threshold = static_cast<float>(rule.threshold);
    return {threshold < 0 ? 0 : magnitude_key(threshold) + 1, 0};
  }
  std::int64_t count = 0;
  for (const WeightRun& run : runs) count += run.count;
  const std::int64_t pruned = pruned_count(rule.sparsity, count);
  if (pruned == count) return {kEverything, 0};
  return Selection(runs, parallel, kernels).find(pruned);
}

// The mask of [begin, end) of a run: those of the cut's key are pruned below the cut's index.
void keep(const WeightRun& run, std::int64_t begin, std::int64_t end, const Cut32& cut,
          const Kernels& kernels, std::uint8_t* mask) {
  const std::int64_t middle = std::clamp(cut.index, begin, end);
  kernels.keep(part_of(run, begin, middle), cut.key + 1, mask + begin);
  kernels.keep(part_of(run, middle, end), cut.key, mask + middle);
}

// A cut for each row: rows are what threads share.
void prune_rows(const PruneTensor& tensor, const PruneRule& rule, const Parallel& parallel,
                const Kernels& kernels) {
  const WeightRun whole = {tensor.dtype, tensor.weight, tensor.count()};
  const std::int64_t columns = tensor.columns;
  const std::int64_t rows = tensor.matrices * tensor.rows;
  const std::int64_t grain = std::max<std::int64_t>(kGrain / columns, 1);
  parallel.for_range(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    const Parallel alone;
    for (; begin < end; ++begin) {
      const std::vector<WeightRun> row = {part_of(whole, begin * columns, (begin + 1) * columns)};
      const Cut32 cut = cut_of(rule, row, alone, kernels);
      keep(row[0], 0, columns, cut, kernels, tensor.mask + begin * columns);
    }
  });
}

void prune_elements(const PruneArgs& args, const Parallel& parallel, const Kernels& kernels) {
  std::vector<WeightRun> runs;
  for (const PruneTensor& t : args.tensors) runs.push_back({t.dtype, t.weight, t.count()});
  Cut32 cut = cut_of(args.rule, runs, parallel, kernels);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    parallel.for_range(runs[i].count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      keep(runs[i], begin, end, cut, kernels, args.tensors[i].mask);
    });
    cut.index -= runs[i].count;
  }
}

void prune_unstructured(const PruneArgs& args, const Parallel& parallel, const Kernels& kernels) {
  if (args.count() == 0) return;
  if (!args.rule.per_row || args.rule.has_threshold) return prune_elements(args, parallel, kernels);
  for (const PruneTensor& tensor : args.tensors) prune_rows(tensor, args.rule, parallel, kernels);
}

void prune_groups(const PruneTensor& tensor, const PruneRule& rule, const Parallel& parallel,
                  const Kernels& kernels) {
  const std::int64_t grain = std::max<std::int64_t>(kGrain / tensor.columns, 1);
  parallel.for_range(
      tensor.matrices * tensor.rows, grain,
      [&](std::int64_t begin, std::int64_t end) { kernels.keep_groups(tensor, rule, begin, end); });
}

// Blocks are pruned as elements are, by their scores.
struct ScoredBlocks {
  ScoredBlocks(const PruneTensor& of, const PruneRule& rule)
      : tensor(of), grid(of, rule), scores(count()), mask(count()) {}

  std::size_t count() const {
    return static_cast<std::size_t>(tensor.matrices * grid.rows * grid.columns);
  }
  PruneTensor elements() {
    return {DType::kFloat32, scores.data(), mask.data(), tensor.matrices, grid.rows, grid.columns};
  }
  void expand_row(const PruneRule& rule, std::int64_t row) const {
    const std::int64_t block_row =
        row / tensor.rows * grid.rows + row % tensor.rows / rule.block_rows;
    for (std::int64_t block = 0; block < grid.columns; ++block) {
      const std::int64_t first = block * rule.block_columns;
      const std::int64_t left = std::min(rule.block_columns, tensor.columns - first);
      std::memset(tensor.mask + row * tensor.columns + first,
                  mask[static_cast<std::size_t>(block_row * grid.columns + block)],
                  static_cast<std::size_t>(left));
    }
  }

  PruneTensor tensor;
  BlockGrid grid;
  std::vector<float> scores;
  std::vector<std::uint8_t> mask;
};

void prune_blocks(const PruneArgs& args, const Parallel& parallel, const Kernels& kernels) {
  std::vector<ScoredBlocks> blocks;
  PruneArgs ranked{.rule = args.rule, .tensors = {}};
  for (const PruneTensor& tensor : args.tensors) {
    ScoredBlocks& own = blocks.emplace_back(tensor, args.rule);
    if (tensor.count() == 0) continue;
    const std::int64_t each = args.rule.block_rows * tensor.columns;
    parallel.for_range(tensor.matrices * own.grid.rows, std::max<std::int64_t>(kGrain / each, 1),
                       [&](std::int64_t begin, std::int64_t end) {
                         kernels.score_blocks(tensor, args.rule, own.scores.data(), begin, end);
                       });
    ranked.tensors.push_back(own.elements());
  }
  prune_unstructured(ranked, parallel, kernels);
  for (const ScoredBlocks& own : blocks) {
    if (own.tensor.count() == 0) continue;
    const std::int64_t grain = std::max<std::int64_t>(kGrain / own.tensor.columns, 1);
    parallel.for_range(own.tensor.matrices * own.tensor.rows, grain,
                       [&](std::int64_t begin, std::int64_t end) {
                         for (; begin < end; ++begin) own.expand_row(args.rule, begin);
                       });
  }
}

}  // namespace

}  // namespace strop::prune::cpu

namespace strop::prune {

void run(const PruneArgs& args, const ExecutionOptions& options) {
  for (const PruneTensor& tensor : args.tensors) {
    if (tensor.dtype == DType::kFloat64) return run(args, Oracle{});
  }
  const Kernels& kernels = prune::kernels(options.isa);
  switch (args.rule.pattern) {
    case PrunePattern::kGroups:
      for (const PruneTensor& tensor : args.tensors) {
        if (tensor.count() > 0) cpu::prune_groups(tensor, args.rule, options.parallel, kernels);
      }
      return;
    case PrunePattern::kBlocks:
      return cpu::prune_blocks(args, options.parallel, kernels);
    default:
      return cpu::prune_unstructured(args, options.parallel, kernels);
  }
}

}  // namespace strop::prune
