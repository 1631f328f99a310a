#pragma once

#include <cstddef>

#include "cuda/launch.h"
#include "kernels/prune.h"
#include "kernels/prune_soft_threshold.h"

namespace strop::cuda {

// Bytes of workspace that prune needs, 0 for none.
std::size_t prune_workspace(const PruneArgs& args);
void prune(const PruneArgs& args, void* workspace, const Launch& on);

void soft_threshold(const SoftThresholdArgs& args, const Launch& on);
void soft_threshold_gradient(const SoftThresholdArgs& args, const Launch& on);

void pack_mask(const MaskRows& rows, const Launch& on);
void unpack_mask(const MaskRows& rows, const Launch& on);

}  // namespace strop::cuda
