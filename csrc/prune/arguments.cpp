#include "prune/arguments.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "core/argument_error.h"

namespace strop::prune {
namespace {

// "2:4" to 2 and 4.
bool parse_groups(const std::string& text, PruneRule& rule) {
  const char* const end = text.data() + text.size();
  const auto [colon, keep_error] = std::from_chars(text.data(), end, rule.keep);
  if (keep_error != std::errc() || colon == end || *colon != ':') return false;
  const auto [rest, group_error] = std::from_chars(colon + 1, end, rule.group);
  return group_error == std::errc() && rest == end;
}

void parse_pattern(const char* op, const PruneRequest& request, PruneRule& rule) {
  if (request.pattern == "unstructured") return;
  if (request.pattern == "block") {
    rule.pattern = PrunePattern::kBlocks;
    const auto& size = request.block_size;
    if (size.size() != 2 || size[0] < 1 || size[1] < 1) {
      throw_value_error(op, ": pattern is a block of ",
                        shape_text(size.data(), static_cast<int>(size.size())),
                        "; two sizes of 1 or more are needed: rows, columns");
    }
    rule.block_rows = size[0];
    rule.block_columns = size[1];
    return;
  }
  if (!parse_groups(request.pattern, rule)) {
    throw_value_error(op, ": pattern '", request.pattern,
                      "' is not known; 'unstructured', 'n:m' such as '2:4', or a tuple (rows, "
                      "columns) is");
  }
  rule.pattern = PrunePattern::kGroups;
  if (rule.keep < 1 || rule.group <= rule.keep || rule.group > kMaxGroup) {
    throw_value_error(op, ": pattern '", request.pattern, "' keeps ", rule.keep, " of ", rule.group,
                      "; n:m needs 1 <= n < m <= ", kMaxGroup);
  }
}

void parse_names(const char* op, const PruneRequest& request, PruneRule& rule) {
  if (request.per != "tensor" && request.per != "row") {
    throw_value_error(op, ": per is '", request.per, "'; 'tensor' or 'row' is needed");
  }
  rule.per_row = request.per == "row";
  if (request.norm != "l1" && request.norm != "l2") {
    throw_value_error(op, ": norm is '", request.norm, "'; 'l1' or 'l2' is needed");
  }
  rule.norm = request.norm == "l2" ? PruneNorm::kL2 : PruneNorm::kL1;
}

void check_sparsity(const char* op, double sparsity) {
  if (sparsity >= 0 && sparsity <= 1) return;  // NaN is neither
  throw_value_error(op, ": sparsity is ", sparsity, "; it must be between 0 and 1");
}

PruneRule named_rule(const char* op, const PruneRequest& request) {
  PruneRule rule;
  parse_pattern(op, request, rule);
  parse_names(op, request, rule);
  return rule;
}

}  // namespace

PruneRule make_prune_rule(const char* op, const PruneRequest& request) {
  PruneRule rule = named_rule(op, request);
  if (rule.pattern == PrunePattern::kGroups) {
    if (request.threshold || request.sparsity) {
      throw_value_error(op, ": ", request.threshold ? "threshold" : "sparsity",
                        " is given; pattern '", request.pattern, "' says itself what is kept");
    }
    return rule;
  }
  if (request.threshold.has_value() == request.sparsity.has_value()) {
    throw_value_error(op, ": ", request.threshold ? "both" : "neither",
                      " of threshold and sparsity ", request.threshold ? "are" : "is",
                      " given; give exactly one");
  }
  rule.has_threshold = request.threshold.has_value();
  if (rule.has_threshold) {
    rule.threshold = *request.threshold;
    if (rule.threshold != rule.threshold) throw_value_error(op, ": threshold is NaN");
  } else {
    rule.sparsity = *request.sparsity;
    check_sparsity(op, rule.sparsity);
  }
  return rule;
}

PruneRule make_prune_masks_rule(const char* op, const PruneRequest& request) {
  PruneRule rule = named_rule(op, request);
  if (request.sparsity) check_sparsity(op, *request.sparsity);
  if (rule.pattern == PrunePattern::kGroups) {
    const double own =
        static_cast<double>(rule.group - rule.keep) / static_cast<double>(rule.group);
    if (request.sparsity && std::fabs(*request.sparsity - own) > 1e-6) {
      throw_value_error(op, ": sparsity is ", *request.sparsity, "; pattern '", request.pattern,
                        "' has ", own);
    }
    return rule;
  }
  if (!request.sparsity) {
    throw_value_error(op, ": sparsity is not given; only an n:m pattern has one of its own");
  }
  rule.sparsity = *request.sparsity;
  return rule;
}

void check_prune(const char* op, const char* name, const PruneRule& rule,
                 const TensorView& weight) {
  if (!is_floating(weight.dtype)) {
    throw_type_error(op, ": ", name, " has dtype ", dtype_name(weight.dtype),
                     "; float32, bfloat16, float16 or float64 is needed");
  }
  if (rule.pattern == PrunePattern::kBlocks && weight.dims < 2) {
    throw_value_error(op, ": ", name, " has shape ", shape_text(weight.shape, weight.dims),
                      "; a pattern of blocks needs two dimensions");
  }
  if (rule.pattern == PrunePattern::kGroups && weight.dims < 1) {
    throw_value_error(op, ": ", name, " has no dimension along which an n:m pattern could lie");
  }
  const bool wide = weight.dtype == DType::kFloat64 && rule.pattern != PrunePattern::kBlocks;
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (!wide && std::isfinite(rule.threshold) && rule.threshold > kLargest) {
    throw_value_error(op, ": threshold is ", rule.threshold, "; at most ", kLargest,
                      " is needed, for it is compared in float32");
  }
}

PruneTensor prune_tensor(const TensorView& weight, void* mask) {
  const auto size = [&](int from_last) {
    return weight.dims < from_last ? 1 : weight.shape[weight.dims - from_last];
  };
  std::int64_t matrices = 1;
  for (int d = 0; d + 2 < weight.dims; ++d) matrices *= weight.shape[d];
  return {.dtype = weight.dtype,
          .weight = weight.data,
          .mask = static_cast<std::uint8_t*>(mask),
          .matrices = matrices,
          .rows = size(2),
          .columns = size(1)};
}

void check_pack_mask(const char* op, const TensorView& mask) {
  if (mask.dtype != DType::kBool && mask.dtype != DType::kUInt8) {
    throw_type_error(op, ": mask has dtype ", dtype_name(mask.dtype), "; bool or uint8 is needed");
  }
  if (mask.dims == 0) throw_value_error(op, ": mask has no dimension to pack along");
}

void check_unpack_mask(const char* op, const TensorView& bits, std::int64_t count) {
  if (bits.dtype != DType::kUInt8) {
    throw_type_error(op, ": bits has dtype ", dtype_name(bits.dtype), "; uint8 is needed");
  }
  if (bits.dims == 0) throw_value_error(op, ": bits has no dimension to unpack along");
  if (count < 0) throw_value_error(op, ": K is ", count, "; it cannot be negative");
  const std::int64_t bytes = bits.shape[bits.dims - 1];
  if (bytes != (count + 7) / 8) {
    throw_value_error(op, ": bits has rows of ", bytes, " bytes; ", count, " elements take ",
                      (count + 7) / 8);
  }
}

MaskRows mask_rows(const std::int64_t* shape, int dims, const void* from, void* to) {
  MaskRows rows{from, to, 1, shape[dims - 1]};
  for (int d = 0; d + 1 < dims; ++d) rows.rows *= shape[d];
  return rows;
}

}  // namespace strop::prune
