#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/execution.h"

namespace strop::prune {

// prune_mask and prune_masks: which weights stay.
//
// Note [Pruning order]
// Weights are pruned in the order of (|w|, tensor, index), index in row-major order: of equal
// magnitudes the lower index goes first. NaN counts as larger than Inf, and so is pruned last and
// by no threshold. What is pruned is all that comes before a Cut in that order:
//
//   keeps(w, i) = |w| > cut.magnitude  or  (|w| == cut.magnitude and i >= cut.index)
//
// A magnitude is compared as its key: the bits of a float without its sign, an unsigned integer
// that orders as magnitudes do. A threshold t is the cut (key(t) + 1, 0), before any weight is
// seen. A sparsity's cut is found digit by digit, from the highest: count the weights that agree
// with what is known of the key by their next digit, and see in which digit the rank falls.
template <class Key>
struct Cut {
  Key key;
  std::int64_t index;  // of the first weight of this key that stays
};

// NaN's, whatever its bits are.
inline constexpr std::uint32_t kNanKey = 0x7fc00000u;
inline constexpr std::uint64_t kWideNanKey = 0x7ff8000000000000u;
inline constexpr std::uint32_t kInfinityKey = 0x7f800000u;
inline constexpr std::uint64_t kWideInfinityKey = 0x7ff0000000000000u;

STROP_INLINE std::uint32_t magnitude_key(float value) {
  const std::uint32_t bits = float_bits(value) & 0x7fffffffu;
  return bits > kInfinityKey ? kNanKey : bits;
}
STROP_INLINE std::uint64_t wide_magnitude_key(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits &= 0x7fffffffffffffffu;
  return bits > kWideInfinityKey ? kWideNanKey : bits;
}

// As keys of one width: float32's, to which float64 is rounded, or float64's.
template <class Key, class T>
STROP_INLINE Key key_of(T stored) {
  if constexpr (sizeof(Key) == 8) {
    return wide_magnitude_key(static_cast<double>(to_float(stored)));
  } else {
    return magnitude_key(static_cast<float>(to_float(stored)));
  }
}

// The digits of a key, 11 bits each, the highest first.
inline constexpr int kDigitBits = 11;
inline constexpr int kDigits = 1 << kDigitBits;

template <class Key>
inline constexpr int kLevels = sizeof(Key) == 8 ? 6 : 3;

template <class Key>
struct Digit {
  int level;
  Key prefix;  // the digits before, as a number

  static constexpr int shift_of(int level) {
    const int shift = 8 * static_cast<int>(sizeof(Key)) - 1 - kDigitBits * (level + 1);
    return shift > 0 ? shift : 0;
  }
  constexpr int shift() const { return shift_of(level); }
  // What the digits before are shifted by; all of the key where there are none.
  constexpr int prefix_shift() const {
    return level == 0 ? 8 * static_cast<int>(sizeof(Key)) - 1 : shift_of(level - 1);
  }
  constexpr int bits() const { return prefix_shift() - shift(); }

  constexpr bool has(Key key) const { return key >> prefix_shift() == prefix; }
  constexpr unsigned of(Key key) const {
    return static_cast<unsigned>(key >> shift()) & ((1u << bits()) - 1);
  }
  constexpr Digit next(unsigned digit) const { return {level + 1, (prefix << bits()) | digit}; }
};

// Members of a group at most: each is compared with every other.
inline constexpr std::int64_t kMaxGroup = 256;

enum class PrunePattern : std::uint8_t { kUnstructured, kGroups, kBlocks };
enum class PruneNorm : std::uint8_t { kL1, kL2 };

// What to prune of any weight. kGroups keeps the `keep` largest of every `group` neighbours along
// the last axis, and of a shorter group at a row's end as many; it has neither threshold nor
// sparsity. kBlocks ranks blocks of the last two axes by the mean of |w| (l1) or the root of the
// mean of w^2 (l2), blocks at an edge by those of their elements that are there.
struct PruneRule {
  PrunePattern pattern = PrunePattern::kUnstructured;
  PruneNorm norm = PruneNorm::kL1;
  bool per_row = false;  // a rank for each row of the last axis
  bool has_threshold = false;
  double threshold = 0;
  double sparsity = 0;
  std::int64_t keep = 0;
  std::int64_t group = 0;
  std::int64_t block_rows = 0;
  std::int64_t block_columns = 0;
};

// How many of `count` a sparsity prunes: the nearest whole number, the even one of two.
inline std::int64_t pruned_count(double sparsity, std::int64_t count) {
  return static_cast<std::int64_t>(std::nearbyint(sparsity * static_cast<double>(count)));
}

// One contiguous weight [matrices, rows, columns], and its mask of the same shape: a byte each, 1
// keeps.
struct PruneTensor {
  DType dtype;
  const void* weight;
  std::uint8_t* mask;
  std::int64_t matrices;
  std::int64_t rows;
  std::int64_t columns;

  constexpr std::int64_t count() const { return matrices * rows * columns; }
};

// One ranking of all tensors, which follow each other. Magnitudes are compared as float64's where
// all tensors are that, else as float32's.
struct PruneArgs {
  PruneRule rule;
  std::vector<PruneTensor> tensors;

  bool wide() const {
    for (const PruneTensor& tensor : tensors) {
      if (tensor.dtype != DType::kFloat64) return false;
    }
    return true;
  }
  std::int64_t count() const {
    std::int64_t all = 0;
    for (const PruneTensor& tensor : tensors) all += tensor.count();
    return all;
  }
};

void run(const PruneArgs& args, Oracle);
void run(const PruneArgs& args, const ExecutionOptions& options);
// On a GPU, with so many bytes of any content.
std::size_t workspace_bytes(const PruneArgs& args, const Launch& on);
void run(const PruneArgs& args, void* workspace, const Launch& on);

// The blocks of a weight, [matrices, rows, columns] of them. Their scores are float32: a block's
// elements are summed in double, each column from top to bottom, then the columns from left to
// right.
struct BlockGrid {
  std::int64_t rows;
  std::int64_t columns;

  constexpr BlockGrid(const PruneTensor& tensor, const PruneRule& rule)
      : rows((tensor.rows + rule.block_rows - 1) / rule.block_rows),
        columns((tensor.columns + rule.block_columns - 1) / rule.block_columns) {}
};

// The part of a column's sum that an element is.
template <class T>
STROP_INLINE double block_term(T stored, PruneNorm norm) {
  const double value = static_cast<double>(to_float(stored));
  if (norm == PruneNorm::kL2) return value * value;
  return value < 0 ? -value : value;
}
STROP_INLINE float block_score(double sum, std::int64_t elements, PruneNorm norm) {
  const double mean = sum / static_cast<double>(elements);
  return static_cast<float>(norm == PruneNorm::kL2 ? std::sqrt(mean) : mean);
}

}  // namespace strop::prune
