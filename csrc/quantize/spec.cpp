#include "quantize/spec.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>

#include "core/argument_error.h"
#include "core/forked.h"

namespace strop::quantize {
namespace {

// Sums of two such numbers are exact in float32; see Note [Shifted range].
constexpr std::int64_t kMaxBound = std::int64_t{1} << 22;

NumberFormat checked_format(const char* op, const QuantizeRequest& request) {
  const NumberFormat* format = find_number_format(request.format);
  if (format == nullptr) throw_value_error(op, ": ", unknown_format(request.format));
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
  if (format.grid != Grid::kInteger) {
    throw_value_error(op, ": ", name, " is given; it narrows integer formats, which ", format.name,
                      " is not");
  }
  const double value = static_cast<double>(*given);
  const double low = std::max(format.min, -static_cast<double>(kMaxBound));
  const double high = std::min(format.max, static_cast<double>(kMaxBound));
  if (value < low || value > high) {
    throw_value_error(op, ": ", name, " is ", *given, "; format ", format.name, " allows ",
                      static_cast<std::int64_t>(low), " to ", static_cast<std::int64_t>(high));
  }
  return value;
}

// What no integer format can be asked for, and no other either.
void check_options(const char* op, const QuantizeRequest& request, const NumberFormat& format) {
  if (format.grid == Grid::kInteger) return;
  if (!request.symmetric) {
    throw_value_error(op, ": symmetric is False; format ", format.name,
                      " has symmetric scales alone");
  }
  if (format.grid == Grid::kNf4 && request.rounding != "half_even") {
    throw_value_error(op, ": rounding '", request.rounding, "' is not defined for format nf4; ",
                      "half_even (the nearest value) is");
  }
  if (format.scales == ScaleKind::kPowerOfTwo && request.eps) {
    throw_value_error(op, ": eps is given; the scales of format ", format.name,
                      " are powers of two, 2^-127 at least");
  }
}

double checked_eps(const char* op, const QuantizeRequest& request, const NumberFormat& format) {
  const bool two_levels = format.scales == ScaleKind::kTwoLevels;
  const double least = two_levels ? kMinTensorScale : double{std::numeric_limits<float>::min()};
  const double eps = request.eps.value_or(least);
  if (!(eps > 0) || !(eps <= static_cast<double>(std::numeric_limits<float>::max()))) {
    throw_value_error(op, ": eps is ", eps, "; a positive finite number is needed");
  }
  if (static_cast<float>(eps) == 0.0f) {
    throw_value_error(op, ": eps is ", eps, ", which is 0 in float32");
  }
  // What an all-zero block is multiplied by; of two levels the lower one has 2^-6 at least.
  const float inverse = (two_levels ? 64.0f : 1.0f) / static_cast<float>(eps);
  if (!std::isfinite(inverse)) {
    throw_value_error(op, ": eps is ", eps, ", by which float32 cannot divide; ", least,
                      " is large enough");
  }
  return eps;
}

QuantizeRule checked_rule(const char* op, const QuantizeRequest& request,
                          const NumberFormat& format) {
  check_options(op, request, format);
  QuantizeRule rule{};
  rule.rounding = checked_rounding(op, request);
  rule.grid = format.grid;
  rule.bits = format.bits;
  rule.is_signed = format.is_signed;
  rule.layout = format.layout;
  rule.scales = format.scales;
  rule.max_exponent = format.bounded() ? format.max_exponent() : 0;
  rule.symmetric = request.symmetric;
  rule.quant_min = checked_bound(op, "quant_min", request.quant_min, format.min, format);
  rule.quant_max = checked_bound(op, "quant_max", request.quant_max, format.max, format);
  if (!(rule.quant_min < rule.quant_max)) {
    throw_value_error(op, ": quant_min ", rule.quant_min, " is not below quant_max ",
                      rule.quant_max);
  }
  rule.eps = checked_eps(op, request, format);
  const double middle = std::floor((rule.quant_min + rule.quant_max + 1) / 2);
  rule.zero_point = format.is_signed ? 0.0 : middle;
  return rule;
}

void check_block_size(const char* op, const QuantizeRequest& request, const NumberFormat& format) {
  if (request.block_size.empty()) return;
  if (format.is_recipe()) {
    throw_value_error(op, ": block_size is given; format ", format.name, " has blocks of ",
                      format.block, " along the last axis");
  }
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
  std::atomic<int> count{0};
  std::array<std::unique_ptr<const QuantizeSpec>, kMaxInternedSpecs> specs;
};

SpecTable& spec_table() {
  static SpecTable& table = *new SpecTable;  // never destroyed: ops may run at exit
  return table;
}
[[maybe_unused]] const SpecTable& made_with_the_library = spec_table();  // see Note [After a fork]

}  // namespace

std::int64_t QuantizeSpec::block_of(int axis, const TensorView& tensor) const {
  const std::int64_t size = std::max<std::int64_t>(tensor.shape[axis], 1);
  std::int64_t wanted = -1;
  if (format.is_recipe()) {
    wanted = axis == tensor.dims - 1 ? format.block : 1;
  } else if (has_block_size()) {
    wanted = block[axis];
  }
  return wanted < 0 ? size : std::min(wanted, size);
}

std::int64_t QuantizeSpec::blocks_of(int axis, const TensorView& tensor) const {
  const std::int64_t each = block_of(axis, tensor);
  return (tensor.shape[axis] + each - 1) / each;
}

QuantizeSpec make_quantize_spec(const char* op, const QuantizeRequest& request) {
  QuantizeSpec spec{};
  spec.request = request;
  spec.format = checked_format(op, request);
  spec.rule = checked_rule(op, request, spec.format);
  check_block_size(op, request, spec.format);
  spec.block_dims = request.block_size.empty() ? -1 : static_cast<int>(request.block_size.size());
  std::copy(request.block_size.begin(), request.block_size.end(), spec.block);
  return spec;
}

int intern_quantize_spec(const char* op, const QuantizeRequest& request) {
  QuantizeSpec spec = make_quantize_spec(op, request);
  SpecTable& table = spec_table();
  const std::lock_guard<std::mutex> lock(lasting_things());
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

}  // namespace strop::quantize
