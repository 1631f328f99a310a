// packed_linear by the plainest loops, over what a layout holds.

#include "linear/codes.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

#include "linear/reference/activation.h"

namespace strop::linear::reference {
namespace {

struct Row {
  std::vector<int> codes;
  int zero = 0;
  float scale = 0;
};

// In float32, each operation rounded once.
template <class T>
Row quantized(const T* x, std::int64_t count, Activations activations) {
  const bool is_signed = activations == Activations::kInt8;
  float low = 0, high = 0;
  bool finite = true;
  for (std::int64_t k = 0; k < count; ++k) {
    const float v = to_float(x[k]);
    finite = finite && std::isfinite(v);
    low = std::fmin(low, v);
    high = std::fmax(high, v);
  }
  Row row;
  row.codes.resize(static_cast<std::size_t>(count));
  row.scale = std::numeric_limits<float>::quiet_NaN();
  if (!finite) return row;
  if (is_signed) {
    row.scale = std::fmax(std::fmax(-low, high) / 127.5f, FLT_MIN);
  } else {
    const bool halved = std::isinf(high - low);
    const float width = halved ? high * 0.5f - low * 0.5f : high - low;
    row.scale = std::fmax(width / (halved ? 127.5f : 255.0f), FLT_MIN);
    row.zero = static_cast<int>(std::clamp(0.0f - std::nearbyint(low / row.scale), 0.0f, 255.0f));
  }
  const float inverse = 1.0f / row.scale, least = is_signed ? -128.0f : 0.0f;
  for (std::int64_t k = 0; k < count; ++k) {
    const float code = std::nearbyint(to_float(x[k]) * inverse) + static_cast<float>(row.zero);
    row.codes[static_cast<std::size_t>(k)] =
        static_cast<int>(std::clamp(code, least, least + 255.0f));
  }
  return row;
}

class Weight {
 public:
  explicit Weight(const void* layout)
      : base_(static_cast<const std::uint8_t*>(layout)),
        header_(*static_cast<const CodesHeader*>(layout)),
        codes_(whole_codes(header_)) {}

  const CodesHeader& header() const { return header_; }
  float scale(std::int64_t n, std::int64_t g) const { return number<float>(header_.scales, n, g); }

  // Less its zero point.
  std::int64_t integer(std::int64_t n, std::int64_t k) const {
    const std::int64_t zero = header_.zeros == 0
                                  ? header_.same_zero
                                  : number<std::int32_t>(header_.zeros, n, k / header_.group);
    return stored(n, k) - zero;
  }
  // What a mask leaves out is not multiplied.
  bool takes_part(std::int64_t n, std::int64_t k) const {
    if (header_.masks == 0) return true;
    const std::int64_t number = number_of(header_.store, place(n, k));
    const std::int64_t word = n / kPanelRows * header_.panel_words() + number / kWordCodes;
    const auto* const words = reinterpret_cast<const std::uint64_t*>(base_ + header_.masks);
    return (words[word] >> number % kWordCodes & 1) != 0;
  }
  float value(std::int64_t n, std::int64_t k) const {
    const std::int64_t g = k / header_.group;
    const float zero = header_.zeros == 0 ? static_cast<float>(header_.same_zero)
                                          : number<float>(header_.zeros, n, g);
    return (value_of(header_, panel(n), place(n, k)) - zero) * scale(n, g);
  }

 private:
  template <class T>
  T number(std::int64_t place, std::int64_t n, std::int64_t g) const {
    const std::int64_t at = (n / kPanelRows * header_.groups + g) * kPanelRows + n % kPanelRows;
    return reinterpret_cast<const T*>(base_ + place)[at];
  }

  CodePlace place(std::int64_t n, std::int64_t k) const {
    const std::int64_t along = k / header_.group * header_.stretch + k % header_.group;
    return place_of(header_, along, n % kPanelRows);
  }
  const std::uint8_t* panel(std::int64_t n) const {
    return codes_.data() + n / kPanelRows * header_.panel_bytes();
  }
  int stored(std::int64_t n, std::int64_t k) const {
    return stored_code(header_, panel(n), place(n, k));
  }

  const std::uint8_t* base_;
  const CodesHeader& header_;
  std::vector<std::uint8_t> codes_;
};

float product_of_integers(const Row& x, const Weight& weight, std::int64_t n) {
  const CodesHeader& header = weight.header();
  float all = 0;
  std::int64_t sum = 0;
  for (std::int64_t g = 0; g < header.groups; ++g) {
    const std::int64_t end = std::min((g + 1) * header.group, header.columns);
    for (std::int64_t k = g * header.group; k < end; ++k) {
      sum += (x.codes[static_cast<std::size_t>(k)] - x.zero) * weight.integer(n, k);
    }
    if ((g + 1) % header.parts != 0) continue;
    const auto f = static_cast<float>(sum);
    if (header.groups == header.parts) return f * (x.scale * weight.scale(n, g));
    const float scaled = f * weight.scale(n, g);
    all = g < header.parts ? scaled : all + scaled;
    sum = 0;
  }
  return all * x.scale;
}

template <class T>
double product(const T* x, const Weight& weight, std::int64_t n) {
  double sum = 0;
  for (std::int64_t k = 0; k < weight.header().columns; ++k) {
    if (weight.takes_part(n, k)) sum += static_cast<double>(to_float(x[k])) * weight.value(n, k);
  }
  return sum;
}

template <class T>
void multiply_codes(const CodedLinearArgs& args) {
  const Weight weight(args.layout);
  const CodesHeader& header = weight.header();
  const bool exact = header.activations == Activations::kExact;
  for (std::int64_t m = 0; m < args.rows; ++m) {
    const T* const x = static_cast<const T*>(args.x) + m * args.x_stride;
    T* const y = static_cast<T*>(args.y) + m * args.y_stride;
    const Row row = exact ? Row{} : quantized(x, header.columns, header.activations);
    for (std::int64_t n = 0; n < header.rows; ++n) {
      const double bias = bias_at(args, n);
      double v = 0;
      if (exact) {
        v = product(x, weight, n) + bias;
      } else {
        v = product_of_integers(row, weight, n) + static_cast<float>(bias);
      }
      y[n] = FromFloat<T>::call(static_cast<float>(activated(v, args.activation)));
    }
  }
}

}  // namespace
}  // namespace strop::linear::reference

namespace strop::linear {

void run(const CodedLinearArgs& args, Oracle) {
  by_narrow_dtype(args.dtype, [&]<class T>() { reference::multiply_codes<T>(args); });
}

}  // namespace strop::linear
