#include "prune/cpu/selection.h"

#include <cmath>
#include <mutex>

namespace strop::prune::cpu {
namespace {

using Digit32 = Digit<std::uint32_t>;

// Elements that are worth waking a thread for, and that a table of 32 bits counts at a time.
constexpr std::int64_t kGrain = 65536;
constexpr std::int64_t kTable = 1 << 20;
// A sample of so many, for weights of which it is a small part.
constexpr std::int64_t kSample = 32768;
constexpr std::int64_t kSampled = 16 * kSample;

std::uint32_t key_at(const WeightRun& run, std::int64_t i) {
  const void* const at = part_of(run, i, i).from;
  switch (run.dtype) {
    case DType::kBFloat16:
      return magnitude_key(to_float(*static_cast<const BFloat16*>(at)));
    case DType::kFloat16:
      return magnitude_key(to_float(*static_cast<const Float16*>(at)));
    default:
      return magnitude_key(*static_cast<const float*>(at));
  }
}

std::int64_t index_within(const WeightRun& run, std::uint32_t key, std::int64_t rank) {
  std::int64_t i = 0;
  for (; key_at(run, i) != key || rank-- > 0; ++i) {
  }
  return i;
}

// The digit in which a rank falls; from here on it is one among that digit's.
unsigned take(const std::vector<std::int64_t>& table, std::int64_t& rank) {
  unsigned digit = 0;
  for (; rank >= table[digit]; ++digit) rank -= table[digit];
  return digit;
}

}  // namespace

Cut<std::uint32_t> Selection::find(std::int64_t pruned) const {
  Place place{};
  if (!find_in_bracket(pruned, place)) place = find_by_digits(pruned);
  return {place.key, place.rank == 0 ? 0 : index_of(place)};
}

// Two keys between which the rank falls, if a sample is like the whole: four standard deviations
// of the sample's rank to either side.
KeyBracket Selection::bracket_of(std::int64_t pruned, std::int64_t count) const {
  std::vector<std::uint32_t> sample;
  const std::int64_t step = count / kSample;
  std::int64_t at = step / 2;
  for (const WeightRun& run : runs_) {
    for (; at < run.count; at += step) sample.push_back(key_at(run, at));
    at -= run.count;
  }
  const auto size = static_cast<double>(sample.size());
  const double share = static_cast<double>(pruned) / static_cast<double>(count);
  const double margin = 4 * std::sqrt(size * share * (1 - share)) + 4;
  const auto key_of_rank = [&](double rank) {
    const auto nth = sample.begin() + static_cast<std::int64_t>(rank);
    std::nth_element(sample.begin(), nth, sample.end());
    return *nth;
  };
  return {.low = key_of_rank(std::max(share * size - margin, 0.0)),
          .high = key_of_rank(std::min(share * size + margin, size - 1))};
}

// One pass instead of three: keys below the bracket are counted, those in it kept. False where it
// holds too many, or not the rank, which costs that pass and nothing else.
bool Selection::find_in_bracket(std::int64_t pruned, Place& place) const {
  std::int64_t count = 0;
  for (const WeightRun& run : runs_) count += run.count;
  if (count < kSampled) return false;
  const KeyBracket bracket = bracket_of(pruned, count);
  const auto most = static_cast<std::size_t>(count / 8);
  std::vector<std::uint32_t> inside;
  std::int64_t below = 0;
  std::mutex adding;
  for (const WeightRun& run : runs_) {
    parallel_.for_range(run.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::uint32_t> keys(kPrunePiece);
      for (std::int64_t next = begin; begin < end; begin = next) {
        next = std::min(begin + kPrunePiece, end);
        const BracketCount found =
            kernels_.split_by_bracket(part_of(run, begin, next), bracket, keys.data());
        const std::lock_guard lock(adding);
        below += found.below;
        if (inside.size() > most) return;
        inside.insert(inside.end(), keys.begin(), keys.begin() + found.inside);
      }
    });
  }
  std::int64_t rank = pruned - below;
  if (inside.size() > most || rank < 0 || rank >= static_cast<std::int64_t>(inside.size())) {
    return false;
  }
  const auto nth = inside.begin() + rank;
  std::nth_element(inside.begin(), nth, inside.end());
  // The smaller ones are before it now.
  place = {*nth, std::count(inside.begin(), nth, *nth)};
  return true;
}

Selection::Place Selection::find_by_digits(std::int64_t pruned) const {
  std::int64_t rank = pruned;  // among those that agree in the digits so far
  Digit32 digit{0, 0};
  while (digit.level < levels()) digit = digit.next(take(count_digits(digit), rank));
  return {digit.prefix << digit.prefix_shift(), rank};
}

// The lowest 9 bits of a 16-bit float's key are 0.
int Selection::levels() const {
  const auto narrow = [](const WeightRun& run) { return dtype_size(run.dtype) == 2; };
  const int all = kLevels<std::uint32_t>;
  return std::all_of(runs_.begin(), runs_.end(), narrow) ? all - 1 : all;
}

std::vector<std::int64_t> Selection::count_digits(const Digit32& digit) const {
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

// The index of the weight that has `rank` others of the key before it.
std::int64_t Selection::index_of(const Place& place) const {
  std::int64_t rank = place.rank;
  std::int64_t offset = 0;
  for (const WeightRun& run : runs_) {
    const std::int64_t pieces = (run.count + kGrain - 1) / kGrain;
    const auto piece = [&](std::int64_t i) {
      return part_of(run, i * kGrain, std::min((i + 1) * kGrain, run.count));
    };
    std::vector<std::int64_t> found(static_cast<std::size_t>(pieces));
    parallel_.for_range(pieces, 1, [&](std::int64_t begin, std::int64_t end) {
      for (; begin < end; ++begin) found[begin] = kernels_.count_key(piece(begin), place.key);
    });
    for (std::int64_t i = 0; i < pieces; rank -= found[i++]) {
      if (rank < found[i]) return offset + i * kGrain + index_within(piece(i), place.key, rank);
    }
    offset += run.count;
  }
  return offset;
}

}  // namespace strop::prune::cpu
