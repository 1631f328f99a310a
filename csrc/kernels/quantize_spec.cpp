#include "kernels/quantize_spec.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>

#include "kernels/argument_error.h"

namespace strop {
namespace {

// Sums of two such numbers are exact in float32; see Note [Shifted range].
constexpr std::int64_t kMaxBound = std::int64_t{1} << 22;

std::string format_list() {
  std::string text;
  for (const NumberFormat& format : number_formats()) {
    if (!text.empty()) text += ", ";
    text += format.name;
  }
  return text;
}

NumberFormat checked_format(const char* op, const QuantizeRequest& request) {
  const NumberFormat* format = find_number_format(request.format);
  if (format == nullptr) {
    throw_value_error(op, ": format '", request.format, "' is not known; known are ",
                      format_list());
  }
  return *format;
}

Rounding checked_rounding(const char* op, const QuantizeRequest& request) {
  for (int i = 0; i < kRoundings; ++i) {
    if (request.rounding == kRoundingNames[i]) return static_cast<Rounding>(i);
  }
  std::string known;
  for (int i = 0; i < kRoundings; ++i) known += std::string(i ? ", " : "") + kRoundingNames[i];
  throw_value_error(op, ": rounding '", request.rounding, "' is not known; known are ", known);
}

double checked_bound(const char* op, const char* name, std::optional<std::int64_t> given,
                     double from_format, const NumberFormat& format) {
  if (!given) return from_format;
  const double value = static_cast<double>(*given);
  const double low = std::max(format.min, -static_cast<double>(kMaxBound));
  const double high = std::min(format.max, static_cast<double>(kMaxBound));
  if (value < low || value > high) {
    throw_value_error(op, ": ", name, " is ", *given, "; format ", format.name, " allows ",
                      static_cast<std::int64_t>(low), " to ", static_cast<std::int64_t>(high));
  }
  return value;
}

QuantizeRule checked_rule(const char* op, const QuantizeRequest& request,
                          const NumberFormat& format) {
  QuantizeRule rule{};
  rule.rounding = checked_rounding(op, request);
  rule.symmetric = request.symmetric;
  rule.quant_min = checked_bound(op, "quant_min", request.quant_min, format.min, format);
  rule.quant_max = checked_bound(op, "quant_max", request.quant_max, format.max, format);
  if (!(rule.quant_min < rule.quant_max)) {
    throw_value_error(op, ": quant_min ", rule.quant_min, " is not below quant_max ",
                      rule.quant_max);
  }
  rule.eps = request.eps.value_or(static_cast<double>(std::numeric_limits<float>::min()));
  if (!(rule.eps > 0) || !(rule.eps <= static_cast<double>(std::numeric_limits<float>::max()))) {
    throw_value_error(op, ": eps is ", rule.eps, "; a positive finite number is needed");
  }
  if (static_cast<float>(rule.eps) == 0.0f) {
    throw_value_error(op, ": eps is ", rule.eps, ", which is 0 in float32");
  }
  const double middle = std::floor((rule.quant_min + rule.quant_max + 1) / 2);
  rule.zero_point = format.is_signed ? 0.0 : middle;
  return rule;
}

void check_block_size(const char* op, const QuantizeRequest& request) {
  if (request.whole) return;
  if (request.block_size.size() > static_cast<std::size_t>(kMaxDims)) {
    throw_value_error(op, ": block_size has ", request.block_size.size(), " entries; at most ",
                      kMaxDims, " dimensions are supported");
  }
  for (std::size_t d = 0; d < request.block_size.size(); ++d) {
    const std::int64_t size = request.block_size[d];
    if (size < -1 || size == 0) {
      throw_value_error(op, ": block_size[", d, "] is ", size,
                        "; a positive size is needed, or -1 for the whole axis");
    }
  }
}

struct SpecTable {
  std::mutex mutex;
  std::atomic<int> count{0};
  std::array<std::unique_ptr<const QuantizeSpec>, kMaxInternedSpecs> specs;
};

SpecTable& spec_table() {
  static SpecTable& table = *new SpecTable;  // never destroyed: ops may run at exit
  return table;
}

}  // namespace

QuantizeSpec make_quantize_spec(const char* op, const QuantizeRequest& request) {
  QuantizeSpec spec{};
  spec.request = request;
  spec.format = checked_format(op, request);
  spec.rule = checked_rule(op, request, spec.format);
  check_block_size(op, request);
  spec.block_dims = request.whole ? -1 : static_cast<int>(request.block_size.size());
  std::copy(request.block_size.begin(), request.block_size.end(), spec.block);
  return spec;
}

int intern_quantize_spec(const char* op, const QuantizeRequest& request) {
  QuantizeSpec spec = make_quantize_spec(op, request);
  SpecTable& table = spec_table();
  const std::lock_guard<std::mutex> lock(table.mutex);
  const int count = table.count.load(std::memory_order_relaxed);
  for (int i = 0; i < count; ++i) {
    if (table.specs[i]->request == request) return i;
  }
  if (count == kMaxInternedSpecs) return -1;
  table.specs[count] = std::make_unique<const QuantizeSpec>(std::move(spec));
  table.count.store(count + 1, std::memory_order_release);
  return count;
}

const QuantizeSpec& interned_quantize_spec(const char* op, std::int64_t index) {
  SpecTable& table = spec_table();
  if (index < 0 || index >= table.count.load(std::memory_order_acquire)) {
    throw_value_error(op, ": ", index, " is not the index of a specification");
  }
  return *table.specs[index];
}

}  // namespace strop
