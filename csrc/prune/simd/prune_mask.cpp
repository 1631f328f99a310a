// The kernels of pruning, compiled once per instruction set (STROP_ISA).

#include "core/simd/vector.h"
#include "prune/kernels.h"
#include "prune/simd/groups.h"

namespace strop::prune::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

void soft_threshold(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end);
void soft_threshold_gradient(const SoftThresholdTask& task, std::int64_t begin, std::int64_t end);
void pack_mask(const MaskRows& rows, std::int64_t begin, std::int64_t end);
void unpack_mask(const MaskRows& rows, std::int64_t begin, std::int64_t end);

namespace {

using Digit32 = Digit<std::uint32_t>;

// The keys of a run, kLanes at a time: calls full(keys, i), and last(keys, i, count) for the rest.
template <class T, class Full, class Last>
STROP_INLINE void for_each_keys(const T* from, std::int64_t count, Full full, Last last) {
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) full(keys_of(load(from + i)), i);
  if (i < count) last(keys_of(load_first(from + i, count - i)), i, static_cast<int>(count - i));
}

// The first digit, which all weights have. Two tables: neighbours are often of one digit, and an
// addition to what was just stored waits for it.
template <class T>
void count_first(const T* from, std::int64_t count, const Digit32& digit, std::uint32_t* table) {
  std::uint32_t second[kDigits] = {};
  alignas(kVectorBytes) std::uint32_t digits[kLanes];
  const auto add = [&](U32 keys, int lanes) {
    store_unaligned(digits, keys >> digit.shift());
    for (int lane = 0; lane + 1 < lanes; lane += 2) {
      ++table[digits[lane]];
      ++second[digits[lane + 1]];
    }
    if (lanes % 2 != 0) ++table[digits[lanes - 1]];
  };
  for_each_keys(
      from, count, [&](U32 keys, std::int64_t) { add(keys, kLanes); },
      [&](U32 keys, std::int64_t, int lanes) { add(keys, lanes); });
  for (int i = 0; i < kDigits; ++i) table[i] += second[i];
}

// A further one, which few have.
template <class T>
void count_further(const T* from, std::int64_t count, const Digit32& digit, std::uint32_t* table) {
  const U32 prefix = broadcast(digit.prefix);
  alignas(kVectorBytes) std::uint32_t lanes[kLanes];
  const auto add = [&](U32 keys, std::uint32_t there) {
    std::uint32_t bits = lane_bits(I32((keys >> digit.prefix_shift()) == prefix)) & there;
    if (bits == 0) return;
    store_unaligned(lanes, keys);
    for (; bits != 0; bits &= bits - 1) ++table[digit.of(lanes[__builtin_ctz(bits)])];
  };
  for_each_keys(
      from, count, [&](U32 keys, std::int64_t) { add(keys, ~0u); },
      [&](U32 keys, std::int64_t, int left) { add(keys, (1u << left) - 1); });
}

template <class T>
BracketCount split_as(const T* from, std::int64_t count, const KeyBracket& bracket,
                      std::uint32_t* inside) {
  // Keys are below 2^31: as signed numbers they compare in one instruction.
  const I32 low = broadcast(static_cast<std::int32_t>(bracket.low));
  const I32 high = broadcast(static_cast<std::int32_t>(bracket.high));
  alignas(kVectorBytes) std::uint32_t lanes[kLanes];
  I32 below{};  // less one for each
  BracketCount found{};
  const auto add = [&](U32 keys, I32 there, I32 lower) {
    below += lower & there;
    std::uint32_t bits = lane_bits(there & ~(lower | I32(bit_cast<I32>(keys) > high)));
    if (bits == 0) return;
    store_unaligned(lanes, keys);
    for (; bits != 0; bits &= bits - 1) inside[found.inside++] = lanes[__builtin_ctz(bits)];
  };
  for_each_keys(
      from, count,
      [&](U32 keys, std::int64_t) { add(keys, ~I32{}, I32(bit_cast<I32>(keys) < low)); },
      [&](U32 keys, std::int64_t, int left) {
        I32 there{};
        for (int lane = 0; lane < left; ++lane) there[lane] = -1;
        add(keys, there, I32(bit_cast<I32>(keys) < low));
      });
  for (int lane = 0; lane < kLanes; ++lane) found.below -= below[lane];
  return found;
}

template <class T>
std::int64_t count_key_as(const T* from, std::int64_t count, std::uint32_t key) {
  const U32 wanted = broadcast(key);
  std::int64_t found = 0;
  for_each_keys(
      from, count,
      [&](U32 keys, std::int64_t) { found += __builtin_popcount(lane_bits(I32(keys == wanted))); },
      [&](U32 keys, std::int64_t, int left) {
        found += __builtin_popcount(lane_bits(I32(keys == wanted)) & ((1u << left) - 1));
      });
  return found;
}

template <class T>
void keep_as(const T* from, std::int64_t count, std::uint32_t least, std::uint8_t* mask) {
  // Keys are below 2^31: as signed numbers they compare in one instruction.
  const I32 below = broadcast(static_cast<std::int32_t>(least - 1));
  const auto kept = [&](const T* at) {
    return I32(bit_cast<I32>(keys_of(load(at))) > below) & broadcast(std::int32_t{1});
  };
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    store_bytes(mask + i, words_of(kept(from + i), kept(from + i + kLanes)));
  }
  for (; i < count; ++i) mask[i] = magnitude_key(to_float(from[i])) >= least;
}

// Sums of a block's columns first, in double, so that their order does not depend on the vectors.
template <class T>
void score_row(const PruneTensor& tensor, const PruneRule& rule, std::int64_t row, float* scores) {
  constexpr std::int64_t kColumns = 512;
  const BlockGrid grid(tensor, rule);
  const std::int64_t top = row % grid.rows * rule.block_rows;
  const std::int64_t left_rows = tensor.rows - top;
  const std::int64_t rows = left_rows < rule.block_rows ? left_rows : rule.block_rows;
  const T* const from =
      static_cast<const T*>(tensor.weight) + (row / grid.rows * tensor.rows + top) * tensor.columns;
  double sums[kColumns], total = 0;
  std::int64_t in_block = 0;
  for (std::int64_t first = 0; first < tensor.columns; first += kColumns) {
    const std::int64_t left = tensor.columns - first;
    const std::int64_t count = left < kColumns ? left : kColumns;
    for (std::int64_t c = 0; c < count; ++c) sums[c] = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const T* const line = from + r * tensor.columns + first;
      for (std::int64_t c = 0; c < count; ++c) sums[c] += block_term(line[c], rule.norm);
    }
    for (std::int64_t c = 0; c < count; ++c) {
      total += sums[c];
      if (++in_block < rule.block_columns && first + c + 1 < tensor.columns) continue;
      *scores++ = block_score(total, rows * in_block, rule.norm);
      total = 0;
      in_block = 0;
    }
  }
}

template <class Function>
STROP_INLINE void by_dtype(const WeightRun& run, Function function) {
  switch (run.dtype) {
    case DType::kBFloat16:
      return function(static_cast<const BFloat16*>(run.from));
    case DType::kFloat16:
      return function(static_cast<const Float16*>(run.from));
    default:
      return function(static_cast<const float*>(run.from));
  }
}

void count_digits(const WeightRun& run, const Digit32& digit, std::uint32_t* table) {
  by_dtype(run, [&](const auto* from) {
    if (digit.level == 0) return count_first(from, run.count, digit, table);
    count_further(from, run.count, digit, table);
  });
}

BracketCount split_by_bracket(const WeightRun& run, const KeyBracket& bracket,
                              std::uint32_t* inside) {
  BracketCount found{};
  by_dtype(run, [&](const auto* from) { found = split_as(from, run.count, bracket, inside); });
  return found;
}

std::int64_t count_key(const WeightRun& run, std::uint32_t key) {
  std::int64_t found = 0;
  by_dtype(run, [&](const auto* from) { found = count_key_as(from, run.count, key); });
  return found;
}

void keep(const WeightRun& run, std::uint32_t least, std::uint8_t* mask) {
  by_dtype(run, [&](const auto* from) { keep_as(from, run.count, least, mask); });
}

void keep_groups(const PruneTensor& tensor, const PruneRule& rule, std::int64_t begin,
                 std::int64_t end) {
  const WeightRun whole = {tensor.dtype, tensor.weight, tensor.count()};
  by_dtype(whole, [&](const auto* from) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t at = row * tensor.columns;
      keep_groups_of_row(from + at, tensor.columns, rule, tensor.mask + at);
    }
  });
}

void score_blocks(const PruneTensor& tensor, const PruneRule& rule, float* scores,
                  std::int64_t begin, std::int64_t end) {
  const BlockGrid grid(tensor, rule);
  const WeightRun whole = {tensor.dtype, tensor.weight, tensor.count()};
  by_dtype(whole, [&]<class T>(const T*) {
    for (std::int64_t row = begin; row < end; ++row) {
      score_row<T>(tensor, rule, row, scores + row * grid.columns);
    }
  });
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {.count_digits = count_digits,
                         .split_by_bracket = split_by_bracket,
                         .count_key = count_key,
                         .keep = keep,
                         .keep_groups = keep_groups,
                         .score_blocks = score_blocks,
                         .soft_threshold = soft_threshold,
                         .soft_threshold_gradient = soft_threshold_gradient,
                         .pack_mask = pack_mask,
                         .unpack_mask = unpack_mask};

}  // namespace strop::prune::simd::STROP_ISA
