#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/rounding.h"
#include "core/tensor_view.h"
#include "formats/number_format.h"

namespace strop::quantize {

// The least scale of a tensor whose blocks have scales of their own, 2^-6 at least: the inverse of
// their product stays finite.
inline constexpr double kMinTensorScale = 0x1p-120;

// The numbers that a kernel works with.
struct QuantizeRule {
  Rounding rounding;
  bool symmetric;    // of a scale chosen from the input
  double quant_min;  // -Inf and Inf: unbounded
  double quant_max;
  double eps;         // the smallest scale that is chosen
  double zero_point;  // of a symmetric rule: 0, or the middle of an unsigned range
  Grid grid;
  int bits;          // of a code
  bool is_signed;    // an integer's code
  FloatBits layout;  // of a float grid
  ScaleKind scales;
  int max_exponent;  // of the largest value, where scales are powers of two

  constexpr double half_range() const { return (quant_max - quant_min) / 2; }
  constexpr double range() const { return quant_max - quant_min; }
  constexpr bool unbounded() const {
    return !(range() <= std::numeric_limits<double>::max());  // at either end
  }
  constexpr bool unbounded_at_both_ends() const {
    constexpr double kMax = std::numeric_limits<double>::max();
    return quant_min < -kMax && quant_max > kMax;
  }
};

// What a caller may ask for, as he wrote it.
struct QuantizeRequest {
  std::string format = "int8";
  std::vector<std::int64_t> block_size;  // empty: the whole tensor is one block
  std::string rounding = "half_even";
  bool symmetric = true;
  std::optional<std::int64_t> quant_min;
  std::optional<std::int64_t> quant_max;
  std::optional<double> eps;

  bool operator==(const QuantizeRequest&) const = default;
};

// A request that has been checked, as far as that needs no tensor.
struct QuantizeSpec {
  QuantizeRequest request;
  NumberFormat format;
  QuantizeRule rule;
  int block_dims;                // -1: the whole tensor is one block, or a recipe says otherwise
  std::int64_t block[kMaxDims];  // -1: the whole axis

  bool has_block_size() const { return block_dims >= 0; }
  // Elements to a block along an axis of a tensor.
  std::int64_t block_of(int axis, const TensorView& tensor) const;
  std::int64_t blocks_of(int axis, const TensorView& tensor) const;
};

// Throws ArgumentError, the text beginning with `op`.
QuantizeSpec make_quantize_spec(const char* op, const QuantizeRequest& request);

// Specifications are interned: a call hands over one integer instead of eight arguments, each of
// which would cost 0.4 us. Equal requests give equal indices; the table only grows, and holds up to
// kMaxInternedSpecs. -1: it is full, the caller passes the arguments themselves.
inline constexpr int kMaxInternedSpecs = 4096;
int intern_quantize_spec(const char* op, const QuantizeRequest& request);

// Throws ArgumentError for an index that intern_quantize_spec never gave.
const QuantizeSpec& interned_quantize_spec(const char* op, std::int64_t index);

}  // namespace strop::quantize
