// Lays codes out for kernels: see Note [Layouts of codes].

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/argument_error.h"
#include "linear/codes.h"

namespace strop::linear {
namespace {

constexpr std::int64_t kCacheLine = 64;

std::int64_t round_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b * b; }

class Builder {
 public:
  explicit Builder(const CodesMatrix& matrix) : matrix_(matrix), format_(*matrix.format) {
    header_.magic = kLayoutMagic;
    header_.kind = LayoutKind::kCodes;
    header_.dtype = static_cast<std::int64_t>(DType::kFloat32);
    header_.rows = matrix.rows;
    header_.columns = matrix.columns;
    header_.count = matrix.rows * matrix.columns;
    header_.interleave = 1;
    header_.activations = matrix.activations;
    header_.store = format_.bits <= 4 ? CodeStore::kNibbles : CodeStore::kBytes;
    cut_groups();
    name_codes();
    for (int code = 0; code < 1 << format_.bits; ++code) {
      values_.push_back(format_.value(code));
    }
  }

  std::vector<std::uint8_t> build() {
    const std::int64_t numbers = header_.panels() * header_.groups * kPanelRows * 4;
    std::int64_t end = sizeof(CodesHeader);
    const auto take = [&](std::int64_t bytes) {
      const std::int64_t place = round_up(end, kCacheLine);
      end = place + bytes;
      return place;
    };
    header_.scales = take(numbers);
    if (has_zeros_of_its_own()) header_.zeros = take(numbers);
    if (!exact()) header_.sums = take(numbers);
    header_.codes = take(header_.panels() * header_.panel_bytes());
    header_.bytes = end + kLayoutSlack;
    bytes_.resize(static_cast<std::size_t>(header_.bytes));
    std::memcpy(bytes_.data(), &header_, sizeof header_);
    for (std::int64_t n = 0; n < matrix_.rows; ++n) {
      for (std::int64_t g = 0; g < header_.groups; ++g) add_group(n, g);
    }
    return std::move(bytes_);
  }

 private:
  bool exact() const { return header_.activations == Activations::kExact; }
  std::int64_t given_groups() const { return header_.groups / header_.parts; }

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

  template <class T>
  void set(std::int64_t place, std::int64_t n, std::int64_t g, T number) {
    const std::int64_t at = (n / kPanelRows * header_.groups + g) * kPanelRows + n % kPanelRows;
    std::memcpy(bytes_.data() + place + at * 4, &number, 4);
  }

  void add_group(std::int64_t n, std::int64_t g) {
    const std::int64_t given = n * given_groups() + g / header_.parts;
    const float zero = matrix_.zeros == nullptr ? 0.0f : matrix_.zeros[given];
    const std::int64_t first = g * header_.group;
    const std::int64_t end = std::min(first + header_.group, matrix_.columns);
    double sum = 0;
    for (std::int64_t k = first; k < end; ++k) {
      const int code = matrix_.codes[n * matrix_.columns + k] & ((1 << format_.bits) - 1);
      const double value = values_[static_cast<std::size_t>(code)];
      sum += value - static_cast<double>(zero);
      put(n, g * header_.stretch + k - first, stored(code, value));
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

  void put(std::int64_t n, std::int64_t place, std::int64_t stored) {
    std::uint8_t* const panel =
        bytes_.data() + header_.codes + n / kPanelRows * header_.panel_bytes();
    const CodePlace at = place_of(header_, place, n % kPanelRows);
    panel[at.byte] |= static_cast<std::uint8_t>((stored & 0xff) << at.shift);
  }

  const CodesMatrix& matrix_;
  const NumberFormat& format_;
  CodesHeader header_{};
  std::vector<double> values_;
  std::vector<std::uint8_t> bytes_;
};

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

}  // namespace strop::linear
