// Lays codes out for kernels: see Note [Layouts of codes].

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/argument_error.h"
#include "linear/codes.h"
#include "linear/panel_writer.h"

namespace strop::linear {
namespace {

CodesHeader header_of(std::int64_t rows, std::int64_t columns, DType dtype) {
  CodesHeader header{};
  header.magic = kLayoutMagic;
  header.kind = LayoutKind::kCodes;
  header.dtype = static_cast<std::int64_t>(dtype);
  header.rows = rows;
  header.columns = columns;
  header.count = rows * columns;
  header.interleave = 1;
  return header;
}

class Builder {
 public:
  explicit Builder(const CodesMatrix& matrix)
      : matrix_(matrix),
        format_(*matrix.format),
        header_(header_of(matrix.rows, matrix.columns, DType::kFloat32)) {
    header_.activations = matrix.activations;
    header_.store = format_.bits <= 4 ? CodeStore::kNibbles : CodeStore::kBytes;
    cut_groups();
    name_codes();
    for (int code = 0; code < 1 << format_.bits; ++code) {
      values_.push_back(format_.value(code));
    }
  }

  std::vector<std::uint8_t> build() {
    const std::int64_t each = header_.panels() * header_.groups * kPanelRows;
    Places places;
    header_.scales = places.take(each * 4);
    if (has_zeros_of_its_own()) header_.zeros = places.take(each * 4);
    header_.bytes_less_zero = fit_bytes_less_zero();
    if (!exact()) header_.sums = places.take(each * 4);
    if (has_fills_of_its_own()) header_.fills = places.take(each);
    bytes_.resize(static_cast<std::size_t>(places.end()));
    PanelWriter writer(header_, matrix_.bits != nullptr);
    for (std::int64_t n = 0; n < matrix_.rows; ++n) {
      for (std::int64_t g = 0; g < header_.groups; ++g) add_group(n, g, writer);
      if (n % kPanelRows == kPanelRows - 1 || n + 1 == matrix_.rows) writer.end_panel();
    }
    fill_groups();
    writer.write(header_, places, bytes_);
    return std::move(bytes_);
  }

 private:
  bool exact() const { return header_.activations == Activations::kExact; }
  std::int64_t given_groups() const { return header_.groups / header_.parts; }

  bool is_kept(std::int64_t n, std::int64_t k) const {
    const std::uint8_t byte = matrix_.bits[n * ((matrix_.columns + 7) / 8) + k / 8];
    return (byte >> k % 8 & 1) != 0;
  }

  // Calls function(n, g, fill) for each group that is not whole.
  template <class Function>
  void for_each_fill(Function function) const {
    for (std::int64_t n = 0; n < matrix_.rows; ++n) {
      for (std::int64_t g = 0; g < header_.groups; ++g) {
        const std::int64_t first = g * header_.group;
        const std::int64_t end = std::min(first + header_.group, matrix_.columns);
        for (std::int64_t k = first; k < end; ++k) {
          if (is_kept(n, k)) continue;
          function(n, g, stored_at(n, k));
          break;
        }
      }
    }
  }

  bool has_fills_of_its_own() {
    if (matrix_.bits == nullptr) return false;
    std::int64_t fill = -1;
    bool same = true;
    for_each_fill([&](std::int64_t, std::int64_t, std::int64_t own) {
      same = same && (fill < 0 || own == fill);
      fill = own;
    });
    if (same) header_.same_fill = repeated(std::max<std::int64_t>(fill, 0));
    return !same;
  }
  void fill_groups() {
    if (header_.fills == 0) return;
    for_each_fill([&](std::int64_t n, std::int64_t g, std::int64_t own) {
      bytes_[static_cast<std::size_t>(header_.fills + number_at(n, g))] =
          static_cast<std::uint8_t>(repeated(own));
    });
  }
  std::int64_t repeated(std::int64_t stored) const {
    return header_.store == CodeStore::kNibbles ? stored * 0x11 : stored;
  }

  // Where all zeros are the same whole number, as those of a symmetric unsigned format are, it
  // stands in the header.
  bool has_zeros_of_its_own() {
    if (matrix_.zeros == nullptr) return false;
    const float* const end = matrix_.zeros + matrix_.rows * given_groups();
    const auto other = [&](float zero) { return zero != matrix_.zeros[0]; };
    const float first = matrix_.rows == 0 ? 0.0f : matrix_.zeros[0];
    if (first != std::floor(first) || std::abs(first) > 255) return true;
    if (std::any_of(matrix_.zeros, end, other)) return true;
    header_.same_zero = static_cast<std::int64_t>(first) - header_.offset;
    return false;
  }

  bool fit_bytes_less_zero() const {
    const auto fits = [&](float zero) {
      const float stored = zero - static_cast<float>(header_.offset);
      return stored >= -112 && stored <= 128;
    };
    if (header_.store != CodeStore::kNibbles) return false;
    if (matrix_.zeros == nullptr) return fits(0);
    return std::all_of(matrix_.zeros, matrix_.zeros + matrix_.rows * given_groups(), fits);
  }

  // What is too long for a sum in 32 bits becomes parts of equal length.
  void cut_groups() {
    const std::int64_t columns = std::max<std::int64_t>(matrix_.columns, 1);
    header_.group = std::min(matrix_.group, columns);
    header_.parts = 1;
    const std::int64_t groups = (columns + header_.group - 1) / header_.group;
    if (!exact() && header_.group > kMaxSumColumns) {
      header_.parts = (header_.group + kMaxSumColumns - 1) / kMaxSumColumns;
      if (groups > 1 && header_.group % header_.parts != 0) {
        throw_value_error("strop.pack_weight: block_size has ", header_.group,
                          " columns, which integer activations need in ", header_.parts,
                          " equal parts");
      }
      header_.group = (header_.group + header_.parts - 1) / header_.parts;
    }
    header_.groups = groups * header_.parts;
    header_.stretch = stretch_of(header_.group);
  }

  void name_codes() {
    const FloatBits& bits = format_.layout;
    if (format_.grid == Grid::kInteger) {
      // (so that a code fits a signed byte, or an unsigned nibble)
      if (format_.bits <= 4) header_.offset = static_cast<std::int64_t>(format_.min);
      if (format_.bits == 8 && !format_.is_signed) header_.offset = 128;
      header_.same_zero = -header_.offset;
    } else if (format_.bits <= 4) {
      header_.code_kind = CodeKind::kTable;
      for (int code = 0; code < 1 << format_.bits; ++code) {
        header_.table[code] = static_cast<float>(format_.value(code));
      }
    } else {
      header_.code_kind = CodeKind::kFloat;
      header_.float_code = {.shift = 10 - bits.mantissa,
                            .sizes = (1 << (format_.bits - 1)) - 1,
                            .factor = std::ldexp(1.0f, 15 - bits.bias)};
    }
  }

  std::int64_t number_at(std::int64_t n, std::int64_t g) const {
    return (n / kPanelRows * header_.groups + g) * kPanelRows + n % kPanelRows;
  }
  template <class T>
  void set(std::int64_t place, std::int64_t n, std::int64_t g, T number) {
    std::memcpy(bytes_.data() + place + number_at(n, g) * 4, &number, 4);
  }

  int code_at(std::int64_t n, std::int64_t k) const {
    return matrix_.codes[n * matrix_.columns + k] & ((1 << format_.bits) - 1);
  }
  double value_at(std::int64_t n, std::int64_t k) const {
    return values_[static_cast<std::size_t>(code_at(n, k))];
  }
  // A code as it lies in a panel.
  std::int64_t stored_at(std::int64_t n, std::int64_t k) const {
    const std::int64_t mask = header_.store == CodeStore::kNibbles ? 15 : 255;
    return stored(code_at(n, k), value_at(n, k)) & mask;
  }

  void add_group(std::int64_t n, std::int64_t g, PanelWriter& writer) {
    const std::int64_t given = n * given_groups() + g / header_.parts;
    const float zero = matrix_.zeros == nullptr ? 0.0f : matrix_.zeros[given];
    const std::int64_t first = g * header_.group;
    const std::int64_t end = std::min(first + header_.group, matrix_.columns);
    double sum = 0;
    for (std::int64_t k = first; k < end; ++k) {
      const std::int64_t place = g * header_.stretch + k - first;
      sum += value_at(n, k) - static_cast<double>(zero);
      writer.put(n, place, stored_at(n, k));
      if (matrix_.bits != nullptr && is_kept(n, k)) writer.keep(n, place);
    }
    const bool nan = std::isnan(sum) && header_.code_kind == CodeKind::kFloat;
    set(header_.scales, n, g, nan ? std::nanf("") : matrix_.scales[given]);
    const float stored_zero = zero - static_cast<float>(header_.offset);
    if (exact()) {
      if (header_.zeros != 0) set(header_.zeros, n, g, stored_zero);
    } else {
      if (header_.zeros != 0) set(header_.zeros, n, g, static_cast<std::int32_t>(stored_zero));
      set(header_.sums, n, g, static_cast<std::int32_t>(sum));
    }
  }

  std::int64_t stored(int code, double value) const {
    if (header_.code_kind == CodeKind::kInteger) {
      return static_cast<std::int64_t>(value) - header_.offset;
    }
    if (header_.code_kind == CodeKind::kTable) return code;
    const int sizes = header_.float_code.sizes;
    return (code & sizes) | ((code & ~sizes) != 0 ? 0x80 : 0);
  }

  const CodesMatrix& matrix_;
  const NumberFormat& format_;
  CodesHeader header_;
  std::vector<double> values_;
  std::vector<std::uint8_t> bytes_;
};

void spread_panel(const CodesHeader& header, std::int64_t panel, std::uint8_t* to) {
  const auto* const base = reinterpret_cast<const std::uint8_t*>(&header);
  for (std::int64_t place = 0; place < header.places(); ++place) {
    for (std::int64_t row = 0; row < kPanelRows; ++row) {
      to[place_of(header, place, row).byte] = header.fill(panel, place / header.stretch, row);
    }
  }
  std::int64_t start = 0;
  std::memcpy(&start, base + header.starts + panel * 8, 8);
  const std::uint8_t* kept = base + header.codes + start;
  const PanelCodes codes(header.store, to);
  for (std::int64_t i = 0; i < header.panel_words(); ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, base + header.masks + (panel * header.panel_words() + i) * 8, 8);
    std::int64_t index = 0;
    for_each_bit(word, [&](int bit) { codes.spread(i * kWordCodes + bit, index++, kept); });
    kept += kept_bytes(header.store, index);
  }
}

}  // namespace

Activations activations_named(const char* op, const std::string& name) {
  if (name.empty()) return Activations::kExact;
  if (name == "int8") return Activations::kInt8;
  if (name == "uint8") return Activations::kUInt8;
  throw_value_error(op, ": activations is '", name, "'; None, int8 and uint8 are known");
}

std::vector<std::uint8_t> build_codes_layout(const CodesMatrix& matrix) {
  return Builder(matrix).build();
}

std::vector<std::uint8_t> build_panels_layout(const MaskedMatrix& matrix) {
  CodesHeader header = header_of(matrix.rows, matrix.columns, matrix.dtype);
  header.count = matrix.count;
  header.activations = Activations::kExact;
  header.store = CodeStore::kBFloat16;
  header.code_kind = CodeKind::kValue;
  header.group = std::max<std::int64_t>((matrix.columns + 31) / 32, 1) * 32;  // whole tiles
  header.groups = header.parts = 1;
  header.stretch = stretch_of(header.group);
  Places places;
  const std::vector<float> ones(static_cast<std::size_t>(header.panels() * kPanelRows), 1.0f);
  const std::size_t scales = ones.size() * sizeof(float);
  header.scales = places.take(static_cast<std::int64_t>(scales));
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(places.end()));
  if (scales > 0) std::memcpy(bytes.data() + header.scales, ones.data(), scales);
  PanelWriter writer(header, true);
  const auto* value = static_cast<const std::uint16_t*>(matrix.values);
  for (std::int64_t n = 0; n < matrix.rows; ++n) {
    const std::uint8_t* const bits = matrix.bits + n * matrix.row_bytes();
    for (std::int64_t at = 0; at < matrix.row_bytes(); at += 8) {
      for_each_bit(bits_at(bits, at, matrix.row_bytes()), [&](int bit) {
        writer.put(n, 8 * at + bit, *value++);
        writer.keep(n, 8 * at + bit);
      });
    }
    if (n % kPanelRows == kPanelRows - 1 || n + 1 == matrix.rows) writer.end_panel();
  }
  writer.write(header, places, bytes);
  return bytes;
}

std::vector<std::uint8_t> whole_codes(const CodesHeader& header) {
  const auto* const base = reinterpret_cast<const std::uint8_t*>(&header);
  const std::uint8_t* const codes = base + header.codes;
  const std::int64_t bytes = header.panel_bytes();
  if (header.masks == 0) return {codes, codes + header.panels() * bytes};
  std::vector<std::uint8_t> whole(static_cast<std::size_t>(header.panels() * bytes));
  for (std::int64_t panel = 0; panel < header.panels(); ++panel) {
    spread_panel(header, panel, whole.data() + panel * bytes);
  }
  return whole;
}

}  // namespace strop::linear
