#include "prune/prune_mask.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace strop::prune::reference {
namespace {

// Elements of a weight as float64's, all of which any dtype has.
std::vector<double> values_of(const PruneTensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(tensor.count()));
  by_dtype(tensor.dtype, [&]<class T>() {
    const T* const from = static_cast<const T*>(tensor.weight);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(from[i]);
  });
  return values;
}

// One more than Inf would be NaN's magnitude; as a pair it can be written down.
using Magnitude = std::pair<bool, double>;
Magnitude magnitude_of(double value) {
  return std::isnan(value) ? Magnitude{true, 0} : Magnitude{false, std::fabs(value)};
}

// Whether each of the values stays; all are ranked together.
std::vector<bool> ranked(const std::vector<double>& values, const PruneRule& rule) {
  std::vector<bool> keeps(values.size());
  if (rule.has_threshold) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      keeps[i] = std::isnan(values[i]) || std::fabs(values[i]) > rule.threshold;
    }
    return keeps;
  }
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return magnitude_of(values[a]) < magnitude_of(values[b]);
  });
  const auto pruned = pruned_count(rule.sparsity, static_cast<std::int64_t>(values.size()));
  for (std::size_t i = 0; i < order.size(); ++i) {
    keeps[order[i]] = static_cast<std::int64_t>(i) >= pruned;
  }
  return keeps;
}

// The same for each row of `columns` by itself where the rule says so.
std::vector<bool> kept(const std::vector<double>& values, std::int64_t columns,
                       const PruneRule& rule) {
  if (!rule.per_row) return ranked(values, rule);
  std::vector<bool> keeps;
  for (auto row = values.begin(); row != values.end(); row += columns) {
    const std::vector<bool> own = ranked({row, row + columns}, rule);
    keeps.insert(keeps.end(), own.begin(), own.end());
  }
  return keeps;
}

void prune_groups(const PruneTensor& tensor, const PruneRule& rule) {
  const std::vector<double> values = values_of(tensor);
  const std::int64_t columns = tensor.columns;
  for (std::int64_t i = 0; i < tensor.count(); ++i) {
    const std::int64_t column = i % columns;
    const std::int64_t first = column / rule.group * rule.group;
    const std::int64_t last = std::min(first + rule.group, columns);
    std::int64_t larger = 0;  // or equal and later
    for (std::int64_t c = first; c < last; ++c) {
      const Magnitude own = magnitude_of(values[static_cast<std::size_t>(i)]);
      const Magnitude other = magnitude_of(values[static_cast<std::size_t>(i - column + c)]);
      if (other > own || (other == own && c > column)) ++larger;
    }
    tensor.mask[i] = larger < rule.keep;
  }
}

double score_of(const PruneTensor& tensor, const std::vector<double>& values, const PruneRule& rule,
                const std::int64_t (&block)[3]) {
  const std::int64_t top = block[1] * rule.block_rows, left = block[2] * rule.block_columns;
  const std::int64_t bottom = std::min(top + rule.block_rows, tensor.rows);
  const std::int64_t right = std::min(left + rule.block_columns, tensor.columns);
  double sum = 0;
  for (std::int64_t c = left; c < right; ++c) {
    double column = 0;
    for (std::int64_t r = top; r < bottom; ++r) {
      const std::int64_t at = (block[0] * tensor.rows + r) * tensor.columns + c;
      const double value = values[static_cast<std::size_t>(at)];
      column += rule.norm == PruneNorm::kL2 ? value * value : std::fabs(value);
    }
    sum += column;
  }
  const double mean = sum / static_cast<double>((bottom - top) * (right - left));
  return rule.norm == PruneNorm::kL2 ? std::sqrt(mean) : mean;
}

std::vector<double> scores_of(const PruneTensor& tensor, const PruneRule& rule) {
  const BlockGrid grid(tensor, rule);
  const std::vector<double> values = values_of(tensor);
  std::vector<double> scores;
  for (std::int64_t m = 0; m < tensor.matrices; ++m) {
    for (std::int64_t r = 0; r < grid.rows; ++r) {
      for (std::int64_t c = 0; c < grid.columns; ++c) {
        scores.push_back(score_of(tensor, values, rule, {m, r, c}));
      }
    }
  }
  return scores;
}

// Where an element's block is among the scores.
std::size_t block_of(const PruneTensor& tensor, const PruneRule& rule, std::int64_t i) {
  const BlockGrid grid(tensor, rule);
  const std::int64_t row = i / tensor.columns, matrix = row / tensor.rows;
  const std::int64_t block_row = matrix * grid.rows + row % tensor.rows / rule.block_rows;
  return static_cast<std::size_t>(block_row * grid.columns +
                                  i % tensor.columns / rule.block_columns);
}

double to_float32(double value) { return static_cast<double>(static_cast<float>(value)); }

}  // namespace
}  // namespace strop::prune::reference

namespace strop::prune {

void run(const PruneArgs& args, Oracle) {
  using namespace reference;
  const PruneRule& original = args.rule;
  const bool blocks = original.pattern == PrunePattern::kBlocks;
  if (original.pattern == PrunePattern::kGroups) {
    for (const PruneTensor& tensor : args.tensors) prune_groups(tensor, original);
    return;
  }
  PruneRule rule = original;
  const bool wide = args.wide() && !blocks;
  if (!wide) rule.threshold = to_float32(rule.threshold);
  std::vector<double> all;
  std::int64_t columns = 0;
  for (const PruneTensor& tensor : args.tensors) {
    std::vector<double> values = blocks ? scores_of(tensor, rule) : values_of(tensor);
    if (!wide) std::transform(values.begin(), values.end(), values.begin(), to_float32);
    all.insert(all.end(), values.begin(), values.end());
    columns = blocks ? BlockGrid(tensor, rule).columns : tensor.columns;
  }
  const std::vector<bool> keeps = kept(all, columns, rule);
  std::size_t first = 0;
  for (const PruneTensor& tensor : args.tensors) {
    const auto count = static_cast<std::size_t>(tensor.count());
    std::size_t last = first;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t at = blocks ? block_of(tensor, rule, static_cast<std::int64_t>(i)) : i;
      tensor.mask[i] = keeps[first + at];
      last = std::max(last, first + at + 1);
    }
    first = last;
  }
}

}  // namespace strop::prune
