// Prepares what the kernels of packed_linear read: see Note [Layouts of a pruned weight].

#include "linear/layout.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "linear/bitmap.h"
#include "linear/bits.h"
#include "linear/codes.h"

namespace strop::linear {
namespace {

// A layout as it grows.
class Bytes {
 public:
  explicit Bytes(std::size_t expected) { bytes_.reserve(expected); }

  std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size()); }
  std::uint8_t* at(std::int64_t place) { return bytes_.data() + place; }

  // The place of so many zero bytes, on a multiple of 8 or right behind the last.
  std::int64_t add(std::size_t count, std::size_t multiple = 8) {
    const std::size_t place = (bytes_.size() + multiple - 1) / multiple * multiple;
    bytes_.resize(place + count);
    return static_cast<std::int64_t>(place);
  }
  template <class T>
  std::int64_t add(const std::vector<T>& items) {
    const std::int64_t place = add(items.size() * sizeof(T));
    if (!items.empty()) std::memcpy(at(place), items.data(), items.size() * sizeof(T));
    return place;
  }
  std::vector<std::uint8_t> finish(LayoutHeader header) {
    add(kLayoutSlack);
    header.bytes = size();
    std::memcpy(bytes_.data(), &header, sizeof header);
    return std::move(bytes_);
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

std::vector<std::uint8_t> build_mask_layout(const MaskedMatrix& matrix) {
  LayoutHeader header = header_of(matrix, LayoutKind::kMask);
  const auto bits = static_cast<std::size_t>(matrix.rows * matrix.row_bytes());
  const auto values = static_cast<std::size_t>(matrix.count * dtype_size(matrix.dtype));
  std::vector<std::int64_t> starts(static_cast<std::size_t>(matrix.rows) + 1);
  run(BitmapStartsArgs{matrix.bits, matrix.rows, matrix.row_bytes(), starts.data()},
      ExecutionOptions{});
  Bytes bytes(sizeof header + bits + values + starts.size() * 8 + 128);
  bytes.add(sizeof header);
  header.first = bytes.add(starts);
  header.second = bytes.add(bits);
  if (bits > 0) std::memcpy(bytes.at(header.second), matrix.bits, bits);
  header.third = bytes.add(values);
  if (values > 0) std::memcpy(bytes.at(header.third), matrix.values, values);
  return bytes.finish(header);
}

// Columns of a block. The part of x that belongs to it, up to four vectors wide, should stay in a
// first cache of 32 to 48 KiB beside what streams through: the more nonzeros, the more of that
// there is. Fewer columns pad more, where there are few nonzeros.
std::int64_t most_block_columns(const MaskedMatrix& matrix) {
  const double density =
      static_cast<double>(matrix.count) /
      static_cast<double>(std::max<std::int64_t>(matrix.rows * matrix.columns, 1));
  return density > 0.4 ? 128 : density > 0.15 ? 160 : kMaxBlockColumns;
}

struct Strip {
  std::uint32_t shared;  // records
  std::uint32_t own;
  int first;  // place of its first row in the order of rows

  bool operator<(const Strip& other) const {
    return shared != other.shared ? shared < other.shared : own < other.own;
  }
  bool operator==(const Strip& other) const { return shared == other.shared && own == other.own; }
};

// Cuts one block after another, a block of rows from its first columns to its last. Word has the
// size of a value.
template <int kInterleave, class Word>
class StripBuilder {
 public:
  StripBuilder(const MaskedMatrix& matrix, std::int64_t block_columns, Bytes& out)
      : matrix_(matrix), block_columns_(block_columns), out_(out) {}

  void begin_rows(std::int64_t first, std::int64_t first_value) {
    first_row_ = first;
    rows_ = static_cast<int>(std::min(kBlockRows, matrix_.rows - first));
    next_value_[0] = first_value;
    for (int row = 0; row + 1 < rows_; ++row) {
      next_value_[row + 1] = next_value_[row] + count_row(row, 0, matrix_.columns);
    }
  }

  // The value after the rows' last one, once all their blocks are built.
  std::int64_t end_value() const { return next_value_[rows_ - 1]; }

  StripBlock build(std::int64_t first_column) {
    first_column_ = first_column;
    columns_ = std::min(block_columns_, matrix_.columns - first_column);
    sort_rows();
    find_strips();
    StripBlock block{};
    block.records = out_.add(0);
    std::vector<std::uint16_t> rows;
    std::vector<StripRun> runs;
    for (const Strip& strip : strips_) {
      if (strip.shared + strip.own == 0 && first_column > 0) continue;  // adds nothing
      if (runs.empty() || runs.back().shared != strip.shared || runs.back().own != strip.own) {
        runs.push_back({strip.shared, strip.own, 0});
      }
      ++runs.back().strips;
      for (int i = 0; i < kInterleave; ++i) {
        rows.push_back(static_cast<std::uint16_t>(order_[strip.first + i]));
      }
      write(strip);
    }
    block.rows = out_.add(rows);
    block.runs = out_.add(runs);
    block.run_count = static_cast<std::int64_t>(runs.size());
    for (int row = 0; row < rows_; ++row) next_value_[row] += count_[row];
    return block;
  }

 private:
  static constexpr std::size_t kOwnBytes = own_bytes(sizeof(Word));
  static constexpr std::size_t kSharedBytes = shared_bytes(sizeof(Word), kInterleave);

  const std::uint8_t* bits(int row) const {
    return matrix_.bits + (first_row_ + row) * matrix_.row_bytes();
  }

  // 64 columns of a row, from `column` of the block on.
  std::uint64_t word(int row, std::int64_t column) const {
    const std::int64_t end = (first_column_ + columns_ + 7) / 8;
    return bits_at(bits(row), (first_column_ + column) / 8, end);
  }

  std::int64_t count_row(int row, std::int64_t begin, std::int64_t end) const {
    std::int64_t count = 0;
    for (std::int64_t at = begin / 8; at < (end + 7) / 8; at += 8) {
      count += count_bits(bits_at(bits(row), at, (end + 7) / 8));
    }
    return count;
  }

  // By their numbers of nonzeros, and equal ones by their numbers; then the row that fills up.
  void sort_rows() {
    std::array<int, kMaxBlockColumns + 2> starts{};
    for (int row = 0; row < rows_; ++row) {
      count_[row] = static_cast<int>(count_row(row, first_column_, first_column_ + columns_));
      ++starts[static_cast<std::size_t>(count_[row]) + 1];
    }
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    for (int row = 0; row < rows_; ++row) {
      order_[starts[static_cast<std::size_t>(count_[row])]++] = row;
    }
    for (int i = 0; i < kInterleave; ++i) order_[rows_ + i] = rows_;
    count_[rows_] = 0;
  }

  void find_strips() {
    strips_.clear();
    for (int first = 0; first < rows_; first += kInterleave) {
      int most = 0, together = 0;
      for (int i = 0; i < kInterleave; ++i) most = std::max(most, count_[order_[first + i]]);
      if (first + kInterleave <= rows_) {
        for (std::int64_t column = 0; column < columns_; column += 64) {
          together += count_bits(together_at(first, column));
        }
      }
      // Few of them save less than another kind of strip costs.
      const int shared = together * 8 < most ? 0 : together / 4;
      const int per_record = 4 / kInterleave;
      const int own = (most - 4 * shared + per_record - 1) / per_record;
      strips_.push_back(
          {static_cast<std::uint32_t>(shared), static_cast<std::uint32_t>(own), first});
    }
    std::stable_sort(strips_.begin(), strips_.end());
  }

  std::uint64_t together_at(int first, std::int64_t column) const {
    std::uint64_t all = ~std::uint64_t{0};
    for (int i = 0; i < kInterleave; ++i) all &= word(order_[first + i], column);
    return all;
  }

  void write(const Strip& strip) {
    const std::int64_t place = out_.add(strip.shared * kSharedBytes + strip.own * kOwnBytes, 1);
    std::uint8_t* const shared = out_.at(place);
    std::uint8_t* const own = shared + strip.shared * kSharedBytes;
    const auto nothing = static_cast<std::uint8_t>(columns_);
    const std::uint8_t padding[kRecordColumns] = {nothing, nothing, nothing, nothing};
    for (std::uint32_t i = 0; i < strip.own; ++i) {
      std::memcpy(own + i * kOwnBytes, padding, sizeof padding);
    }
    for (int i = 0; i < kInterleave; ++i) {
      const int row = order_[strip.first + i];
      if (row == rows_) continue;
      write_row(strip, i, shared, own);
    }
  }

  void write_row(const Strip& strip, int i, std::uint8_t* shared, std::uint8_t* own) const {
    const int row = order_[strip.first + i];
    const auto* value = static_cast<const Word*>(matrix_.values) + next_value_[row];
    const std::size_t most_shared = 4 * strip.shared;
    const auto row_of_strip = static_cast<std::size_t>(i);
    std::size_t of_shared = 0, of_own = row_of_strip;
    for (std::int64_t column = 0; column < columns_; column += 64) {
      const std::uint64_t together = most_shared == 0 ? 0 : together_at(strip.first, column);
      for_each_bit(word(row, column), [&](int bit) {
        const auto at = static_cast<std::uint8_t>(column + bit);
        if ((together >> bit & 1) != 0 && of_shared < most_shared) {
          std::uint8_t* const record = shared + of_shared / 4 * kSharedBytes;
          record[of_shared % 4] = at;
          const std::size_t place = of_shared % 4 * kInterleave + row_of_strip;
          std::memcpy(record + kRecordColumns + place * sizeof(Word), value, sizeof(Word));
          ++of_shared;
        } else {
          std::uint8_t* const record = own + of_own / 4 * kOwnBytes;
          record[of_own % 4] = at;
          std::memcpy(record + kRecordColumns + of_own % 4 * sizeof(Word), value, sizeof(Word));
          of_own += kInterleave;
        }
        ++value;
      });
    }
  }

  const MaskedMatrix& matrix_;
  const std::int64_t block_columns_;
  Bytes& out_;
  std::int64_t first_row_ = 0, first_column_ = 0, columns_ = 0;
  int rows_ = 0;
  std::array<std::int64_t, kBlockRows> next_value_{};  // of each row, in this block
  std::array<int, kBlockRows + 1> count_{};            // nonzeros of each row in this block
  std::array<int, kBlockRows + kInterleave> order_{};
  std::vector<Strip> strips_;
};

template <int kInterleave, class Word>
std::vector<std::uint8_t> build_strips(const MaskedMatrix& matrix) {
  LayoutHeader header = header_of(matrix, LayoutKind::kStrips);
  header.interleave = kInterleave;
  header.cut_columns(most_block_columns(matrix));
  const auto blocks = static_cast<std::size_t>(header.row_blocks() * header.column_blocks());
  Bytes bytes(sizeof header + static_cast<std::size_t>(matrix.count) * (sizeof(Word) + 3) +
              blocks * 4096);
  bytes.add(sizeof header);
  header.first = bytes.add(blocks * sizeof(StripBlock));
  StripBuilder<kInterleave, Word> builder(matrix, header.block_columns, bytes);
  std::int64_t place = header.first, value = 0;
  for (std::int64_t row = 0; row < matrix.rows; row += kBlockRows) {
    builder.begin_rows(row, value);
    for (std::int64_t block = 0; block < header.column_blocks(); ++block) {
      const StripBlock built = builder.build(block * header.block_columns);
      std::memcpy(bytes.at(place), &built, sizeof built);
      place += static_cast<std::int64_t>(sizeof built);
    }
    value = builder.end_value();
  }
  return bytes.finish(header);
}

template <int kInterleave>
std::vector<std::uint8_t> build_strips(const MaskedMatrix& matrix) {
  return dtype_size(matrix.dtype) == 2 ? build_strips<kInterleave, std::uint16_t>(matrix)
                                       : build_strips<kInterleave, std::uint32_t>(matrix);
}

}  // namespace

LayoutHeader header_of(const MaskedMatrix& matrix, LayoutKind kind) {
  LayoutHeader header{};
  header.magic = kLayoutMagic;
  header.kind = kind;
  header.dtype = static_cast<std::int64_t>(matrix.dtype);
  header.rows = matrix.rows;
  header.columns = matrix.columns;
  header.count = matrix.count;
  header.interleave = 1;
  return header;
}

std::vector<std::uint8_t> build_layout(const MaskedMatrix& matrix, LayoutChoice choice) {
  switch (choice) {
    case LayoutChoice::kQuads:
      return build_strips<4>(matrix);
    case LayoutChoice::kPairs:
      return build_strips<2>(matrix);
    case LayoutChoice::kPanels:
      return matrix.dtype == DType::kFloat32 ? build_columns_layout(matrix)
                                             : build_panels_layout(matrix);
    default:
      return build_mask_layout(matrix);
  }
}

}  // namespace strop::linear
