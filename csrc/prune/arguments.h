#pragma once

#include <optional>
#include <string>

#include "core/tensor_view.h"
#include "prune/pack_mask.h"
#include "prune/prune_mask.h"

namespace strop::prune {

// prune_mask's options as a caller wrote them.
struct PruneRequest {
  std::optional<double> threshold = {};
  std::optional<double> sparsity = {};
  std::string pattern = "unstructured";       // or "n:m", or "block"
  std::vector<std::int64_t> block_size = {};  // of "block": rows, columns
  std::string per = "tensor";
  std::string norm = "l1";
};

// Throws ArgumentError, as all below do, before anything is allocated.
PruneRule make_prune_rule(const char* op, const PruneRequest& request);
// prune_masks has one ranking, and takes an n:m pattern's own sparsity as well.
PruneRule make_prune_masks_rule(const char* op, const PruneRequest& request);
void check_prune(const char* op, const char* name, const PruneRule& rule, const TensorView& weight);
// Of a contiguous weight.
PruneTensor prune_tensor(const TensorView& weight, void* mask);

void check_pack_mask(const char* op, const TensorView& mask);
void check_unpack_mask(const char* op, const TensorView& bits, std::int64_t count);
// Of the mask's shape.
MaskRows mask_rows(const std::int64_t* shape, int dims, const void* from, void* to);

}  // namespace strop::prune
