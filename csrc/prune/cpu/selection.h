#pragma once

#include <algorithm>
#include <vector>

#include "prune/kernels.h"

namespace strop::prune::cpu {

inline WeightRun part_of(const WeightRun& run, std::int64_t begin, std::int64_t end) {
  const char* const from = static_cast<const char*>(run.from);
  return {run.dtype, from + begin * dtype_size(run.dtype), end - begin};
}

// Finds the cut below which a number of weights lies, in runs that follow each other: see Note
// [Pruning order].
class Selection {
 public:
  Selection(const std::vector<WeightRun>& runs, const Parallel& parallel, const Kernels& kernels)
      : runs_(runs), parallel_(parallel), kernels_(kernels) {}

  // Of fewer than all.
  Cut<std::uint32_t> find(std::int64_t pruned) const;

 private:
  // A key, and how many weights of the same key are before the cut.
  struct Place {
    std::uint32_t key;
    std::int64_t rank;
  };

  bool find_in_bracket(std::int64_t pruned, Place& place) const;
  KeyBracket bracket_of(std::int64_t pruned, std::int64_t count) const;
  Place find_by_digits(std::int64_t pruned) const;
  int levels() const;
  std::vector<std::int64_t> count_digits(const Digit<std::uint32_t>& digit) const;
  std::int64_t index_of(const Place& place) const;

  const std::vector<WeightRun>& runs_;
  const Parallel& parallel_;
  const Kernels& kernels_;
};

}  // namespace strop::prune::cpu
