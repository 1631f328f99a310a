#pragma once

#include <string>

#include "core/isa.h"

namespace strop::cpu {

// Each family's kernels of a set against the oracle: see Family in core/isa.h.
std::string self_test_quantize(Isa isa);
std::string self_test_prune(Isa isa);
std::string self_test_sparse(Isa isa);
std::string self_test_augment(Isa isa);

// The part of quantize's that is about gradients.
std::string self_test_gradients(Isa isa);

bool has_quantize_kernels(Isa isa);
bool has_prune_kernels(Isa isa);
bool has_sparse_kernels(Isa isa);
bool has_augment_kernels(Isa isa);

}  // namespace strop::cpu
