// Lays out the columns that panels of rows keep: see Note [Layouts of a pruned weight].

#include <algorithm>
#include <array>
#include <cstring>

#include "linear/bits.h"
#include "linear/layout.h"

namespace strop::linear {
namespace {

constexpr std::int64_t kAlignment = 64;  // of values: a column is a vector, or some

class ColumnsBuilder {
 public:
  explicit ColumnsBuilder(const MaskedMatrix& matrix)
      : matrix_(matrix), header_{header_of(matrix, LayoutKind::kColumns), 0} {
    header_.interleave = kPanelRows;
    cut_blocks();
  }

  std::vector<std::uint8_t> build() {
    const auto* value = static_cast<const float*>(matrix_.values);
    for (std::int64_t row = 0; row < matrix_.rows; row += kGroupRows) {
      value = find_values(row, value);
      for (std::int64_t block = 0; block < header_.column_blocks(); ++block) {
        for (std::int64_t panel = 0; panel < kGroupPanels; ++panel) {
          starts_.push_back(static_cast<std::int64_t>(columns_.size()));
          add_list(row, panel, block * header_.block_columns);
        }
      }
    }
    starts_.push_back(static_cast<std::int64_t>(columns_.size()));
    return written();
  }

 private:
  // Lists are long enough for what each costs; and the part of x that belongs to a block stays in
  // the caches.
  void cut_blocks() {
    std::int64_t kept = 0;
    for (std::int64_t row = 0; row < matrix_.rows; row += kPanelRows) {
      for (std::int64_t k = 0; k < matrix_.columns; k += 64) kept += count_bits(any_at(row, k));
    }
    const std::int64_t panels = (matrix_.rows + kPanelRows - 1) / kPanelRows;
    columns_.reserve(static_cast<std::size_t>(kept));
    masks_.reserve(static_cast<std::size_t>(kept));
    values_.reserve(static_cast<std::size_t>(kept * kPanelRows));
    const std::int64_t all = panels * matrix_.columns;
    header_.cut_columns(kept * 4 > all ? 256 : kept * 7 > all ? 512 : kMaxListColumns);
  }

  // 64 bits of a row from a column on, a multiple of 8.
  std::uint64_t bits(std::int64_t row, std::int64_t k) const {
    const std::int64_t bytes = matrix_.row_bytes();
    return row < matrix_.rows ? bits_at(matrix_.bits + row * bytes, k / 8, bytes) : 0;
  }
  std::uint64_t any_at(std::int64_t row, std::int64_t k) const {
    std::uint64_t any = 0;
    for (std::int64_t i = 0; i < kPanelRows; ++i) any |= bits(row + i, k);
    return any;
  }

  // The values of a group's rows. Returns those of the next one.
  const float* find_values(std::int64_t row, const float* value) {
    for (std::int64_t i = 0; i < kGroupRows; ++i) {
      values_of_[static_cast<std::size_t>(i)] = value;
      for (std::int64_t k = 0; k < matrix_.columns; k += 64) value += count_bits(bits(row + i, k));
    }
    return value;
  }

  void add_list(std::int64_t group_row, std::int64_t panel, std::int64_t first) {
    const std::int64_t row = group_row + panel * kPanelRows;
    const std::int64_t end = std::min(first + header_.block_columns, matrix_.columns);
    for (std::int64_t k = first; k < end; k += 64) {
      const std::int64_t left = end - k;
      const std::uint64_t within = left < 64 ? (std::uint64_t{1} << left) - 1 : ~std::uint64_t{0};
      std::array<std::uint64_t, kPanelRows> rows{};
      std::uint64_t any = 0;
      for (std::int64_t i = 0; i < kPanelRows; ++i) {
        rows[static_cast<std::size_t>(i)] = bits(row + i, k) & within;
        any |= rows[static_cast<std::size_t>(i)];
      }
      for_each_bit(any, [&](int bit) {
        columns_.push_back(static_cast<std::uint16_t>(k - first + bit));
        add_column(row, panel * kPanelRows, rows, bit);
      });
    }
  }

  void add_column(std::int64_t row, std::int64_t of_group,
                  const std::array<std::uint64_t, kPanelRows>& rows, int bit) {
    unsigned mask = 0;
    for (std::int64_t i = 0; i < kPanelRows; ++i) {
      const bool kept = (rows[static_cast<std::size_t>(i)] >> bit & 1) != 0;
      values_.push_back(kept ? *values_of_[static_cast<std::size_t>(of_group + i)]++ : 0.0f);
      mask |= (kept ? 1u : 0u) << i;
      whole_ = whole_ && (kept || row + i >= matrix_.rows);
    }
    masks_.push_back(static_cast<std::uint16_t>(mask));
  }

  std::vector<std::uint8_t> written() {
    std::vector<std::uint8_t> bytes(sizeof header_);
    const auto add = [&](const auto& items) {
      const std::size_t place = (bytes.size() + kAlignment - 1) / kAlignment * kAlignment;
      const std::size_t size = items.size() * sizeof(items[0]);
      bytes.resize(place + size);
      if (size > 0) std::memcpy(bytes.data() + place, items.data(), size);
      return static_cast<std::int64_t>(place);
    };
    header_.first = add(starts_);
    header_.second = add(columns_);
    header_.masks = whole_ ? 0 : add(masks_);
    header_.third = add(values_);
    bytes.resize(bytes.size() + kLayoutSlack);
    header_.bytes = static_cast<std::int64_t>(bytes.size());
    std::memcpy(bytes.data(), &header_, sizeof header_);
    return bytes;
  }

  const MaskedMatrix& matrix_;
  ColumnsHeader header_;
  std::array<const float*, kGroupRows> values_of_{};  // of each row of a group, that come next
  bool whole_ = true;
  std::vector<std::int64_t> starts_;
  std::vector<std::uint16_t> columns_, masks_;
  std::vector<float> values_;
};

}  // namespace

std::vector<std::uint8_t> build_columns_layout(const MaskedMatrix& matrix) {
  return ColumnsBuilder(matrix).build();
}

}  // namespace strop::linear
