// Whether a layout is one that the kernels can be let loose on.

#include <vector>

#include "core/argument_error.h"
#include "linear/bits.h"
#include "linear/codes.h"

namespace strop::linear {
namespace {

class Inspector {
 public:
  Inspector(const void* layout, std::int64_t bytes)
      : base_(static_cast<const std::uint8_t*>(layout)), bytes_(bytes) {
    std::memcpy(&header_, layout, sizeof header_);
  }

  std::string problem() const {
    const auto dtype = static_cast<DType>(header_.dtype);
    const bool known = header_.dtype >= 0 && header_.dtype < 256 && is_floating(dtype);
    constexpr std::int64_t kMax = std::int64_t{1} << 40;  // products of two stay in 64 bits
    if (!known || header_.rows < 0 || header_.columns < 0 || header_.count < 0 ||
        header_.rows > kMax || header_.columns > kMax || header_.count > kMax) {
      return "its header makes no sense";
    }
    if (header_.kind == LayoutKind::kMask) return mask_problem(dtype_size(dtype));
    if (header_.kind == LayoutKind::kCodes) return codes_problem();
    const std::int64_t width = header_.block_columns, interleave = header_.interleave;
    const bool of_columns = header_.kind == LayoutKind::kColumns;
    const std::int64_t most = of_columns ? kMaxListColumns : kMaxBlockColumns;
    const bool in_blocks = width >= 8 && width <= most && width % 8 == 0;
    const bool strips = header_.kind == LayoutKind::kStrips && dtype != DType::kFloat64 &&
                        (interleave == 2 || interleave == 4);
    const bool kept_columns = of_columns && dtype == DType::kFloat32 && interleave == kPanelRows;
    if (!in_blocks || (!strips && !kept_columns)) return "its header makes no sense";
    return strips ? strips_problem() : columns_problem();
  }

 private:
  // Whether a stretch lies within the layout, with slack behind it; and on a multiple of 8.
  bool has(std::int64_t place, std::int64_t count, std::int64_t item) const {
    const auto from = static_cast<std::int64_t>(sizeof(LayoutHeader));
    return place >= from && place <= bytes_ - kLayoutSlack && count >= 0 &&
           count <= (bytes_ - kLayoutSlack - place) / item;
  }
  bool holds(std::int64_t place, std::int64_t count, std::int64_t item) const {
    return place % 8 == 0 && has(place, count, item);
  }

  template <class T>
  T at(std::int64_t place) const {
    T value;
    std::memcpy(&value, base_ + place, sizeof value);
    return value;
  }

  std::string mask_problem(int item) const {
    const std::int64_t row_bytes = (header_.columns + 7) / 8;
    if (row_bytes > 0 && header_.rows > (std::int64_t{1} << 40) / row_bytes) {
      return "it is too large";
    }
    if (!holds(header_.first, header_.rows + 1, 8) ||
        !holds(header_.second, header_.rows * row_bytes, 1) ||
        !holds(header_.third, header_.count, item)) {
      return "a part of it lies outside";
    }
    std::int64_t count = 0;
    for (std::int64_t row = 0; row < header_.rows; ++row) {
      if (at<std::int64_t>(header_.first + 8 * row) != count) return "a row begins elsewhere";
      const std::uint8_t* const bits = base_ + header_.second + row * row_bytes;
      for (std::int64_t i = 0; i < row_bytes; i += 8)
        count += count_bits(bits_at(bits, i, row_bytes));
      const std::int64_t rest = header_.columns % 8;
      if (rest != 0 && bits[row_bytes - 1] >> rest != 0) return "a row has bits beyond its columns";
    }
    if (at<std::int64_t>(header_.first + 8 * header_.rows) != count || count != header_.count) {
      return "its bits do not count its values";
    }
    return {};
  }

  // Any code, scale and zero point will do: nothing is found by them.
  std::string codes_problem() const {
    if (bytes_ < static_cast<std::int64_t>(sizeof(CodesHeader))) return "it is too short";
    const auto header = at<CodesHeader>(0);
    constexpr std::int64_t kMax = std::int64_t{1} << 40;
    const bool exact = header.activations == Activations::kExact;
    const bool known = exact || header.activations == Activations::kInt8 ||
                       header.activations == Activations::kUInt8;
    const bool nibbles = header.store == CodeStore::kNibbles;
    const bool values = header.store == CodeStore::kBFloat16;
    if (!known || (!nibbles && !values && header.store != CodeStore::kBytes) || header.group < 1 ||
        header.group > kMax || header.stretch != stretch_of(header.group) || header.parts < 1 ||
        header.groups < header.parts || header.groups % header.parts != 0 ||
        header.groups > kMax / header.stretch || header.groups * header.group < header.columns ||
        (header.code_kind == CodeKind::kTable && !nibbles) ||
        (header.code_kind == CodeKind::kValue) != values ||
        (values && (!exact || header.groups != 1 || header.masks == 0)) ||
        (!exact && (header.sums == 0 || header.group > kMaxSumColumns))) {
      return "its header makes no sense";
    }
    const std::int64_t lanes = header.panels() * kPanelRows;
    if (lanes > kMax / header.places()) return "it is too large";
    const std::int64_t numbers = lanes * header.groups;
    const bool masked = header.masks != 0;
    if (!holds(header.scales, numbers, 4) ||
        (!masked && !holds(header.codes, header.panels(), header.panel_bytes())) ||
        (masked && header.fills != 0 && !holds(header.fills, numbers, 1)) ||
        (header.zeros != 0 && !holds(header.zeros, numbers, 4)) ||
        (!exact && !holds(header.sums, numbers, 4))) {
      return "a part of it lies outside";
    }
    return masked ? masked_codes_problem(header) : std::string();
  }

  std::string masked_codes_problem(const CodesHeader& header) const {
    const std::int64_t panels = header.panels(), words = header.panel_words();
    if (!holds(header.masks, panels * words, 8) || !holds(header.starts, panels + 1, 8)) {
      return "a part of it lies outside";
    }
    std::int64_t start = 0;
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      if (at<std::int64_t>(header.starts + 8 * panel) != start) return "a panel begins elsewhere";
      for (std::int64_t i = 0; i < words; ++i) {
        const auto word = at<std::uint64_t>(header.masks + 8 * (panel * words + i));
        start += kept_bytes(header.store, count_bits(word));
      }
    }
    if (at<std::int64_t>(header.starts + 8 * panels) != start || !holds(header.codes, start, 1)) {
      return "its bits do not count its codes";
    }
    return {};
  }

  std::string columns_problem() const {
    if (bytes_ < static_cast<std::int64_t>(sizeof(ColumnsHeader))) return "it is too short";
    const auto header = at<ColumnsHeader>(0);
    const std::int64_t per_row = header.column_blocks() * kGroupPanels;
    if (header.groups() > (std::int64_t{1} << 40) / per_row) return "it is too large";
    const std::int64_t lists = header.lists();
    if (!holds(header.first, lists + 1, 8)) return "a part of it lies outside";
    const auto count = at<std::int64_t>(header.first + 8 * lists);
    if (!holds(header.second, count, 2) || !holds(header.third, count, kPanelRows * 4) ||
        (header.masks != 0 && !holds(header.masks, count, 2))) {
      return "a part of it lies outside";
    }
    std::int64_t start = 0;
    for (std::int64_t list = 0; list < lists; ++list) {
      const auto end = at<std::int64_t>(header.first + 8 * (list + 1));
      if (at<std::int64_t>(header.first + 8 * list) != start || end < start || end > count) {
        return "a list begins elsewhere";
      }
      const std::int64_t first =
          list / kGroupPanels % header.column_blocks() * header.block_columns;
      const std::int64_t left = header.columns - first;
      const std::int64_t columns = left < header.block_columns ? left : header.block_columns;
      for (; start < end; ++start) {
        if (at<std::uint16_t>(header.second + 2 * start) >= columns) {
          return "a column is out of range";
        }
      }
    }
    return {};
  }

  std::string strips_problem() const {
    const std::int64_t per_row = header_.column_blocks();
    if (header_.row_blocks() > (std::int64_t{1} << 40) / per_row) return "it is too large";
    const auto size = static_cast<std::int64_t>(sizeof(StripBlock));
    if (!holds(header_.first, header_.row_blocks() * per_row, size)) {
      return "its blocks lie outside";
    }
    std::string problem;
    for (std::int64_t i = 0; i < header_.row_blocks() * per_row && problem.empty(); ++i) {
      problem = block_problem(at<StripBlock>(header_.first + i * size), i / per_row, i % per_row);
    }
    return problem;
  }

  std::string block_problem(const StripBlock& block, std::int64_t row_block,
                            std::int64_t column_block) const {
    if (!holds(block.runs, block.run_count, sizeof(StripRun)) || !holds(block.records, 0, 1)) {
      return "a block lies outside";
    }
    const std::int64_t left = header_.rows - row_block * kBlockRows;
    const std::int64_t rows = left < kBlockRows ? left : kBlockRows;
    const std::int64_t columns_left = header_.columns - column_block * header_.block_columns;
    const std::int64_t columns =
        columns_left < header_.block_columns ? columns_left : header_.block_columns;
    std::vector<bool> seen(static_cast<std::size_t>(rows));
    const std::int64_t item = dtype_size(static_cast<DType>(header_.dtype));
    const std::int64_t of_shared = shared_bytes(item, header_.interleave), of_own = own_bytes(item);
    std::int64_t record = block.records, place = block.rows, found = 0;
    for (std::int64_t i = 0; i < block.run_count; ++i) {
      const auto run = at<StripRun>(block.runs + i * static_cast<std::int64_t>(sizeof(StripRun)));
      const std::int64_t strip_bytes = run.shared * of_shared + run.own * of_own;
      if (strip_bytes > 0 && !has(record, run.strips, strip_bytes)) return "a run is too long";
      if (!has(place, run.strips * header_.interleave, 2)) return "rows are missing";
      for (std::uint32_t strip = 0; strip < run.strips; ++strip, record += strip_bytes) {
        for (std::int64_t j = 0; j < header_.interleave; ++j, place += 2) {
          const auto row = at<std::uint16_t>(place);
          if (row > rows) return "a row is out of range";
          if (row == rows) continue;  // fills up
          if (seen[row]) return "a row comes twice";
          seen[row] = true;
          ++found;
        }
        if (!columns_fit(record, run, columns)) return "a column is out of range";
      }
    }
    if (column_block == 0 && found != rows) return "a row is missing";
    return {};
  }

  bool columns_fit(std::int64_t record, const StripRun& run, std::int64_t columns) const {
    const std::int64_t item = dtype_size(static_cast<DType>(header_.dtype));
    for (std::uint32_t i = 0; i < run.shared + run.own; ++i) {
      for (int j = 0; j < kRecordColumns; ++j) {
        if (at<std::uint8_t>(record + j) > columns) return false;
      }
      record += i < run.shared ? shared_bytes(item, header_.interleave) : own_bytes(item);
    }
    return true;
  }

  const std::uint8_t* base_;
  std::int64_t bytes_;
  LayoutHeader header_;
};

}  // namespace

std::string layout_problem(const void* layout, std::int64_t bytes) {
  return Inspector(layout, bytes).problem();
}

}  // namespace strop::linear
