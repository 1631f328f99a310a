#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/prune.h"
#include "reference/prune.h"

namespace strop::cpu {
namespace {

using Cut32 = Cut<std::uint32_t>;
using Digit32 = Digit<std::uint32_t>;

// Elements that are worth waking a thread for, and that a table of 32 bits counts at a time.
constexpr std::int64_t kGrain = 65536;
constexpr std::int64_t kTable = 1 << 20;
// What no key reaches.
constexpr std::uint32_t kEverything = 0x80000000u;

const char* element(const WeightRun& run, std::int64_t i) {
  return static_cast<const char*>(run.from) + i * dtype_size(run.dtype);
}

WeightRun part_of(const WeightRun& run, std::int64_t begin, std::int64_t end) {
  return {run.dtype, element(run, begin), end - begin};
}

std::uint32_t key_at(const WeightRun& run, std::int64_t i) {
  const void* const at = element(run, i);
  switch (run.dtype) {
    case DType::kBFloat16:
      return magnitude_key(to_float(*static_cast<const BFloat16*>(at)));
    case DType::kFloat16:
      return magnitude_key(to_float(*static_cast<const Float16*>(at)));
    default:
      return magnitude_key(*static_cast<const float*>(at));
  }
}

// Finds the cut below which a number of weights lies, in runs that follow each other: see Note
// [Pruning order].
class Selection {
 public:
  Selection(const std::vector<WeightRun>& runs, const Parallel& parallel,
            const PruneKernels& kernels)
      : runs_(runs), parallel_(parallel), kernels_(kernels) {}

  Cut32 find(std::int64_t pruned) const {
    std::int64_t rank = pruned;  // among those that agree in the digits so far
    Digit32 digit{0, 0};
    std::int64_t ties = 0;
    for (; digit.level < levels(); digit = digit.next(take(count(digit), rank, ties))) {
    }
    const std::uint32_t key = digit.prefix << digit.prefix_shift();
    return {key, rank == 0 || ties == 1 ? 0 : index_of(key, rank)};
  }

 private:
  // The lowest 9 bits of a 16-bit float's key are 0.
  int levels() const {
    const auto narrow = [](const WeightRun& run) { return dtype_size(run.dtype) == 2; };
    const int all = kLevels<std::uint32_t>;
    return std::all_of(runs_.begin(), runs_.end(), narrow) ? all - 1 : all;
  }

  std::vector<std::int64_t> count(const Digit32& digit) const {
    std::vector<std::int64_t> total(kDigits, 0);
    std::mutex adding;
    for (const WeightRun& run : runs_) {
      parallel_.for_range(run.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
        std::vector<std::int64_t> sums(kDigits, 0);
        std::vector<std::uint32_t> table(kDigits);
        for (; begin < end; begin += kTable) {
          std::fill(table.begin(), table.end(), 0);
          kernels_.count_digits(part_of(run, begin, std::min(begin + kTable, end)), digit,
                                table.data());
          for (int i = 0; i < kDigits; ++i) sums[i] += table[i];
        }
        const std::lock_guard lock(adding);
        for (int i = 0; i < kDigits; ++i) total[i] += sums[i];
      });
    }
    return total;
  }

  // The digit in which a rank falls; from here on it is one among that digit's.
  static unsigned take(const std::vector<std::int64_t>& table, std::int64_t& rank,
                       std::int64_t& ties) {
    unsigned digit = 0;
    for (; rank >= table[digit]; ++digit) rank -= table[digit];
    ties = table[digit];
    return digit;
  }

  // The index of the weight that has `rank` others of its key before it.
  std::int64_t index_of(std::uint32_t key, std::int64_t rank) const {
    std::int64_t offset = 0;
    for (const WeightRun& run : runs_) {
      const std::int64_t pieces = (run.count + kGrain - 1) / kGrain;
      const auto piece = [&](std::int64_t i) {
        return part_of(run, i * kGrain, std::min((i + 1) * kGrain, run.count));
      };
      std::vector<std::int64_t> found(static_cast<std::size_t>(pieces));
      parallel_.for_range(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
        for (; begin < end; ++begin) found[begin] = kernels_.count_key(piece(begin), key);
      });
      for (std::int64_t i = 0; i < pieces; rank -= found[i++]) {
        if (rank < found[i]) return offset + i * kGrain + index_within(piece(i), key, rank);
      }
      offset += run.count;
    }
    return offset;
  }

  static std::int64_t index_within(const WeightRun& run, std::uint32_t key, std::int64_t rank) {
    std::int64_t i = 0;
    for (; key_at(run, i) != key || rank-- > 0; ++i) {
    }
    return i;
  }

  const std::vector<WeightRun>& runs_;
  const Parallel& parallel_;
  const PruneKernels& kernels_;
};

Cut32 cut_of(const PruneRule& rule, const std::vector<WeightRun>& runs, const Parallel& parallel,
             const PruneKernels& kernels) {
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
          const PruneKernels& kernels, std::uint8_t* mask) {
  const std::int64_t middle = std::clamp(cut.index, begin, end);
  kernels.keep(part_of(run, begin, middle), cut.key + 1, mask + begin);
  kernels.keep(part_of(run, middle, end), cut.key, mask + middle);
}

// A cut for each row: rows are what threads share.
void prune_rows(const PruneTensor& tensor, const PruneRule& rule, const Parallel& parallel,
                const PruneKernels& kernels) {
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

void prune_elements(const PruneArgs& args, const Parallel& parallel, const PruneKernels& kernels) {
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

void prune_unstructured(const PruneArgs& args, const Parallel& parallel,
                        const PruneKernels& kernels) {
  if (args.count() == 0) return;
  if (!args.rule.per_row || args.rule.has_threshold) return prune_elements(args, parallel, kernels);
  for (const PruneTensor& tensor : args.tensors) prune_rows(tensor, args.rule, parallel, kernels);
}

void prune_groups(const PruneTensor& tensor, const PruneRule& rule, const Parallel& parallel,
                  const PruneKernels& kernels) {
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

void prune_blocks(const PruneArgs& args, const Parallel& parallel, const PruneKernels& kernels) {
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

void prune(const PruneArgs& args, const Parallel& parallel) {
  prune(args, parallel, active_kernels().prune);
}

void prune(const PruneArgs& args, const Parallel& parallel, const PruneKernels& kernels) {
  for (const PruneTensor& tensor : args.tensors) {
    if (tensor.dtype == DType::kFloat64) return reference::prune(args);
  }
  switch (args.rule.pattern) {
    case PrunePattern::kGroups:
      for (const PruneTensor& tensor : args.tensors) {
        if (tensor.count() > 0) prune_groups(tensor, args.rule, parallel, kernels);
      }
      return;
    case PrunePattern::kBlocks:
      return prune_blocks(args, parallel, kernels);
    default:
      return prune_unstructured(args, parallel, kernels);
  }
}

}  // namespace strop::cpu
