#pragma once

#include <string>

#include "cpu/dispatch.h"

namespace strop::cpu {

// Every kernel of a set against the oracle, on a few small problems of each kind. Empty: all agree;
// else what differed.
std::string self_test(const Kernels& kernels);

// The part of it that is about gradients.
std::string self_test_gradients(const Kernels& kernels);
// And that about pruning.
std::string self_test_prune(const PruneKernels& kernels);

// And about augmentation.
std::string self_test_augment(const AugmentKernels& kernels);

// And about sparse_linear.
std::string self_test_sparse(const Kernels& kernels);

}  // namespace strop::cpu
