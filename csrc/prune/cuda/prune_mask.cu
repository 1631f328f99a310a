// Pruning on a GPU. A sparsity's cut is found without the host: a table of digits in global memory,
// one block that picks the digit from it, level by level; ties are counted in pieces, whose order
// is that of the weights. Rows that are ranked by themselves have a block each, and tables in
// shared memory.

#include <algorithm>

#include "prune/cuda/patterns.cuh"
#include "prune/cuda/prune_mask.cuh"

namespace strop::prune::cuda {
using namespace strop::cuda;
namespace {

using Table = unsigned long long;

template <class Key>
__device__ __forceinline__ Digit<Key> digit_at(int level, Key key) {
  Digit<Key> digit{level, 0};
  digit.prefix = level == 0 ? 0 : key >> digit.prefix_shift();
  return digit;
}

template <class Key, class T>
__global__ void __launch_bounds__(kPruneThreads)
    count_digits_kernel(const Weights<T> weights, int level, const Found<Key>* found,
                        Table* table) {
  __shared__ unsigned counts[kDigits];
  const Digit<Key> digit = digit_at<Key>(level, level == 0 ? 0 : found->key);
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kPruneThreads) counts[i] = 0;
  __syncthreads();
  for (std::int64_t begin = blockIdx.x * kPrunePiece; begin < weights.count;
       begin += gridDim.x * kPrunePiece) {
    const std::int64_t end = std::min(begin + kPrunePiece, weights.count);
    for_each_key<Key>(weights, begin, end, [&](std::int64_t, Key key) {
      if (digit.has(key)) atomicAdd(counts + digit.of(key), 1u);
    });
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kPruneThreads) {
    if (counts[i] != 0) atomicAdd(table + i, static_cast<Table>(counts[i]));
  }
}

// One block; leaves the table empty.
template <class Key>
__global__ void __launch_bounds__(kPruneThreads)
    pick_digit_kernel(int level, std::int64_t pruned, Found<Key>* found, Table* table) {
  __shared__ SearchScratch scratch;
  const Found<Key> before = level == 0 ? Found<Key>{0, pruned, 0} : *found;
  std::int64_t rank = before.rank;
  const Key digit = pick_digit(table, rank, scratch);
  for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kPruneThreads) table[i] = 0;
  if (threadIdx.x != 0) return;
  *found = {before.key | digit << Digit<Key>::shift_of(level), rank, 0};
}

// How many weights of a piece have the cut's key.
template <class Key, class T>
__global__ void __launch_bounds__(kPruneThreads)
    count_ties_kernel(const Weights<T> weights, const Found<Key>* found, std::int64_t* ties) {
  __shared__ SearchScratch scratch;
  if (found->rank == 0) return;
  const Key cut = found->key;
  for (std::int64_t piece = blockIdx.x; piece * kPrunePiece < weights.count; piece += gridDim.x) {
    const std::int64_t begin = piece * kPrunePiece;
    std::int64_t own = 0, all = 0;
    for_each_key<Key>(weights, begin, std::min(begin + kPrunePiece, weights.count),
                      [&](std::int64_t, Key key) { own += key == cut ? 1 : 0; });
    sum_before(own, scratch.warps, all);
    if (threadIdx.x == 0) ties[piece] = all;
  }
}

// One block: the cut's index, if it is among these weights, the first of which has `offset`.
template <class Key, class T>
__global__ void __launch_bounds__(kPruneThreads)
    find_index_kernel(const Weights<T> weights, const std::int64_t* ties, std::int64_t offset,
                      Found<Key>* found) {
  __shared__ SearchScratch scratch;
  const Found<Key> before = *found;
  if (before.rank == 0) return;
  __syncthreads();  // all have read it
  const std::int64_t pieces = (weights.count + kPrunePiece - 1) / kPrunePiece;
  std::int64_t rank = before.rank, all = 0;
  for (std::int64_t first = 0; first < pieces; first += kPruneThreads) {
    const std::int64_t piece = first + threadIdx.x;
    const std::int64_t own = piece < pieces ? ties[piece] : 0;
    const std::int64_t left = rank - sum_before(own, scratch.warps, all);
    if (left >= 0 && left < own) {
      scratch.rank = left;
      scratch.place = piece;
    }
    if (rank < all) break;
    rank -= all;
    all = 0;
  }
  if (all == 0) {  // it is further on; all of these are before it
    if (threadIdx.x == 0) *found = {before.key, rank, offset + weights.count};
    return;
  }
  __syncthreads();
  const std::int64_t begin = scratch.place * kPrunePiece;
  const std::int64_t left = scratch.rank;
  const std::int64_t at = place_of<Key>(
      weights, begin, std::min(begin + kPrunePiece, weights.count), before.key, left, scratch);
  if (threadIdx.x == 0) *found = {before.key, 0, offset + at};
}

// `found`: nullptr where the cut is known before.
template <class Key, class T>
__global__ void __launch_bounds__(kPruneThreads)
    keep_kernel(const Weights<T> weights, Cut<Key> cut, const Found<Key>* found,
                std::int64_t offset, std::uint8_t* mask) {
  if (found != nullptr) cut = {found->key, found->index};
  cut.index -= offset;
  for (std::int64_t begin = blockIdx.x * kPrunePiece; begin < weights.count;
       begin += gridDim.x * kPrunePiece) {
    for_each_key<Key>(weights, begin, std::min(begin + kPrunePiece, weights.count),
                      [&](std::int64_t i, Key key) { mask[i] = stays(key, i, cut) ? 1 : 0; });
  }
}

// A ranking for each row.
template <class Key, class T>
__global__ void __launch_bounds__(kPruneThreads)
    keep_rows_kernel(const Weights<T> row, std::int64_t rows, std::int64_t pruned, int levels,
                     std::uint8_t* mask) {
  __shared__ unsigned counts[kDigits];
  __shared__ SearchScratch scratch;
  for (std::int64_t number = blockIdx.x; number < rows; number += gridDim.x) {
    const Weights<T> own = {row.from + number * row.count, row.count, row.whole};
    Cut<Key> cut = {0, 0};
    std::int64_t rank = pruned;
    for (int level = 0; level < levels; ++level) {
      const Digit<Key> digit = digit_at<Key>(level, cut.key);
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < kDigits; i += kPruneThreads) counts[i] = 0;
      __syncthreads();
      for_each_key<Key>(own, 0, own.count, [&](std::int64_t, Key key) {
        if (digit.has(key)) atomicAdd(counts + digit.of(key), 1u);
      });
      __syncthreads();
      cut.key |= static_cast<Key>(pick_digit(counts, rank, scratch)) << digit.shift();
    }
    if (rank > 0) cut.index = place_of<Key>(own, 0, own.count, cut.key, rank, scratch);
    std::uint8_t* const to = mask + number * row.count;
    for_each_key<Key>(own, 0, own.count,
                      [&](std::int64_t i, Key key) { to[i] = stays(key, i, cut) ? 1 : 0; });
  }
}

std::int64_t pieces_of(std::int64_t count) { return (count + kPrunePiece - 1) / kPrunePiece; }

template <class T>
Weights<T> weights_of(const PruneTensor& tensor, std::int64_t count) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.weight) % kVectorBytes == 0;
  const bool rows = count * static_cast<std::int64_t>(sizeof(T)) % kVectorBytes == 0;
  return {static_cast<const T*>(tensor.weight), count,
          aligned && (rows || count == tensor.count())};
}

// Weights of 64-bit keys are float64's.
template <class Key, class Function>
void by_element(DType dtype, Function function) {
  if constexpr (sizeof(Key) == 8) {
    function.template operator()<double>();
  } else {
    by_dtype(dtype, function);
  }
}

template <class Key>
int levels_of(const PruneArgs& args) {
  const auto narrow = [](const PruneTensor& tensor) { return dtype_size(tensor.dtype) == 2; };
  const bool all = std::all_of(args.tensors.begin(), args.tensors.end(), narrow);
  return all ? kLevels<Key> - 1 : kLevels<Key>;  // the lowest 9 bits of such a key are 0
}

// What a ranking of all tensors keeps on the GPU.
template <class Key>
struct RankingScratch {
  Found<Key>* found;
  Table* table;
  std::int64_t* ties;

  RankingScratch(const PruneArgs& args, Scratch& scratch)
      : found(scratch.take<Found<Key>>(1)), table(scratch.take<Table>(kDigits)), ties(nullptr) {
    std::int64_t pieces = 0;
    for (const PruneTensor& tensor : args.tensors) pieces += pieces_of(tensor.count());
    ties = scratch.take<std::int64_t>(pieces);
  }
};

// Calls function.operator()<T>(weights, mask, first piece, index of the first weight).
template <class Key, class Function>
void for_each_weights(const PruneArgs& args, Function function) {
  std::int64_t offset = 0, piece = 0;
  for (const PruneTensor& tensor : args.tensors) {
    const std::int64_t count = tensor.count();
    if (count == 0) continue;
    by_element<Key>(tensor.dtype, [&]<class T>() {
      function(weights_of<T>(tensor, count), tensor.mask, piece, offset);
    });
    offset += count;
    piece += pieces_of(count);
  }
}

template <class Key>
void find_cut(const PruneArgs& args, std::int64_t pruned, const RankingScratch<Key>& scratch,
              const Launch& on) {
  check(cudaMemsetAsync(scratch.table, 0, kDigits * sizeof(Table), on.stream), "clearing a table");
  const auto* const found = static_cast<const Found<Key>*>(scratch.found);
  for (int level = 0; level < levels_of<Key>(args); ++level) {
    for_each_weights<Key>(args, [&]<class T>(const Weights<T>& weights, auto...) {
      launch(on, count_digits_kernel<Key, T>, pieces_of(weights.count), kPruneThreads, weights,
             level, found, scratch.table);
    });
    launch(on, pick_digit_kernel<Key>, 1, kPruneThreads, level, pruned, scratch.found,
           scratch.table);
  }
  for_each_weights<Key>(args, [&]<class T>(const Weights<T>& weights, auto*, std::int64_t piece,
                                           std::int64_t offset) {
    std::int64_t* const ties = scratch.ties + piece;
    launch(on, count_ties_kernel<Key, T>, pieces_of(weights.count), kPruneThreads, weights, found,
           ties);
    launch(on, find_index_kernel<Key, T>, 1, kPruneThreads, weights,
           static_cast<const std::int64_t*>(ties), offset, scratch.found);
  });
}

// The cut, where it does not depend on the weights; false: it does.
template <class Key>
bool known_cut(const PruneRule& rule, std::int64_t pruned, std::int64_t count, Cut<Key>& cut) {
  cut = {0, 0};
  if (rule.has_threshold) {
    if (rule.threshold < 0) return true;
    if constexpr (sizeof(Key) == 8) {
      cut.key = wide_magnitude_key(rule.threshold) + 1;
    } else {
      cut.key = magnitude_key(static_cast<float>(rule.threshold)) + 1;
    }
    return true;
  }
  if (pruned == count) cut.key = Key{1} << (8 * sizeof(Key) - 1);  // no key is as large
  return pruned == 0 || pruned == count;
}

template <class Key>
void keep_by(const PruneArgs& args, const Cut<Key>& cut, const Found<Key>* found,
             const Launch& on) {
  for_each_weights<Key>(args, [&]<class T>(const Weights<T>& weights, std::uint8_t* mask,
                                           std::int64_t, std::int64_t offset) {
    launch(on, keep_kernel<Key, T>, pieces_of(weights.count), kPruneThreads, weights, cut, found,
           offset, mask);
  });
}

template <class Key>
void rank_all(const PruneArgs& args, Scratch& scratch, const Launch& on) {
  const RankingScratch<Key> held(args, scratch);
  if (scratch.measures() || args.count() == 0) return;
  const std::int64_t pruned = pruned_count(args.rule.sparsity, args.count());
  Cut<Key> cut;
  const bool known = known_cut(args.rule, pruned, args.count(), cut);
  if (!known) find_cut(args, pruned, held, on);
  keep_by<Key>(args, cut, known ? nullptr : held.found, on);
}

template <class Key>
void rank_rows(const PruneArgs& args, const Launch& on) {
  for (const PruneTensor& tensor : args.tensors) {
    const std::int64_t columns = tensor.columns, rows = tensor.matrices * tensor.rows;
    if (tensor.count() == 0) continue;
    const std::int64_t pruned = pruned_count(args.rule.sparsity, columns);
    Cut<Key> cut;
    if (known_cut(args.rule, pruned, columns, cut)) {
      keep_by<Key>({args.rule, {tensor}}, cut, nullptr, on);
      continue;
    }
    by_element<Key>(tensor.dtype, [&]<class T>() {
      launch(on, keep_rows_kernel<Key, T>, rows, kPruneThreads, weights_of<T>(tensor, columns),
             rows, pruned, levels_of<Key>(args), tensor.mask);
    });
  }
}

template <class Key>
void prune_elements(const PruneArgs& args, Scratch& scratch, const Launch& on) {
  if (!args.rule.per_row) return rank_all<Key>(args, scratch, on);
  if (!scratch.measures()) rank_rows<Key>(args, on);
}

// Blocks are pruned as elements are, by their scores.
void prune_blocks(const PruneArgs& args, Scratch& scratch, const Launch& on) {
  PruneArgs ranked{.rule = args.rule, .tensors = {}};
  for (const PruneTensor& tensor : args.tensors) {
    const BlockGrid grid(tensor, args.rule);
    const std::int64_t blocks =
        tensor.count() == 0 ? 0 : tensor.matrices * grid.rows * grid.columns;
    auto* const scores = scratch.take<float>(blocks);
    ranked.tensors.push_back({.dtype = DType::kFloat32,
                              .weight = scores,
                              .mask = scratch.take<std::uint8_t>(blocks),
                              .matrices = blocks == 0 ? 0 : tensor.matrices,
                              .rows = grid.rows,
                              .columns = grid.columns});
    auto* const sums = scratch.take<double>(tensor.matrices * grid.rows * tensor.columns);
    if (scratch.measures() || blocks == 0) continue;
    by_dtype(tensor.dtype,
             [&]<class T>() { score_blocks<T>(tensor, args.rule, sums, scores, on); });
  }
  prune_elements<std::uint32_t>(ranked, scratch, on);
  if (scratch.measures()) return;
  for (std::size_t i = 0; i < args.tensors.size(); ++i) {
    if (args.tensors[i].count() > 0)
      expand_blocks(args.tensors[i], args.rule, ranked.tensors[i].mask, on);
  }
}

void prune_in(const PruneArgs& args, Scratch& scratch, const Launch& on) {
  if (args.rule.pattern == PrunePattern::kBlocks) return prune_blocks(args, scratch, on);
  if (args.rule.pattern == PrunePattern::kUnstructured) {
    if (args.wide()) return prune_elements<std::uint64_t>(args, scratch, on);
    return prune_elements<std::uint32_t>(args, scratch, on);
  }
  if (scratch.measures()) return;
  for (const PruneTensor& tensor : args.tensors) {
    if (tensor.count() == 0) continue;
    by_dtype(tensor.dtype, [&]<class T>() { keep_groups<T>(tensor, args.rule, on); });
  }
}

}  // namespace

}  // namespace strop::prune::cuda

namespace strop::prune {

std::size_t workspace_bytes(const PruneArgs& args, const Launch& on) {
  cuda::Scratch scratch(nullptr, true);
  cuda::prune_in(args, scratch, on);
  return scratch.used();
}

void run(const PruneArgs& args, void* workspace, const Launch& on) {
  cuda::Scratch scratch(workspace, false);
  cuda::prune_in(args, scratch, on);
}

}  // namespace strop::prune
