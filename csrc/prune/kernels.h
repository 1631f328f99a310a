#pragma once

#include "core/execution.h"
#include "prune/pack_mask.h"
#include "prune/prune_mask.h"
#include "prune/soft_threshold.h"

namespace strop::prune {

// Consecutive weights.
struct WeightRun {
  DType dtype;
  const void* from;
  std::int64_t count;
};

// Keys from `low` to `high`, both of them; and how many weights are below and in it.
struct KeyBracket {
  std::uint32_t low;
  std::uint32_t high;
};
struct BracketCount {
  std::int64_t below;
  std::int64_t inside;
};

// Elements of a row that are worked on at a time: whole bytes of a packed mask.
inline constexpr std::int64_t kPrunePiece = 16384;

// A soft_threshold cut in pieces of rows, for threads to share.
struct SoftThresholdTask {
  SoftThresholdArgs args;
  std::int64_t row_pieces;
  bool stream;  // past the caches

  SoftThresholdRow row_at(std::int64_t row) const;
};

// The kernels, once per instruction set. `begin` and `end` are numbers of rows, or of pieces.
struct Kernels {
  // Adds the run's weights that have a digit's prefix to the table, by the digit. Of 2^31 at most.
  void (*count_digits)(const WeightRun& run, const Digit<std::uint32_t>& digit,
                       std::uint32_t* table);
  // The keys that are in a bracket go to `inside`, in no order that matters.
  BracketCount (*split_by_bracket)(const WeightRun& run, const KeyBracket& bracket,
                                   std::uint32_t* inside);
  std::int64_t (*count_key)(const WeightRun& run, std::uint32_t key);
  // The mask of all whose key is `least` or larger.
  void (*keep)(const WeightRun& run, std::uint32_t least, std::uint8_t* mask);
  void (*keep_groups)(const PruneTensor& tensor, const PruneRule& rule, std::int64_t begin,
                      std::int64_t end);
  // Scores of rows of blocks.
  void (*score_blocks)(const PruneTensor& tensor, const PruneRule& rule, float* scores,
                       std::int64_t begin, std::int64_t end);
  void (*soft_threshold)(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end);
  void (*soft_threshold_gradient)(const SoftThresholdTask& task, std::int64_t begin,
                                  std::int64_t end);
  void (*pack_mask)(const MaskRows& rows, std::int64_t begin, std::int64_t end);
  void (*unpack_mask)(const MaskRows& rows, std::int64_t begin, std::int64_t end);
};

const Kernels& kernels(Isa isa);
bool has_kernels(Isa isa);

}  // namespace strop::prune
