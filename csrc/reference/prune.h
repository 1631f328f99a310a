#pragma once

#include "kernels/prune.h"
#include "kernels/prune_soft_threshold.h"

// The oracle of pruning: everything is ranked by a sort.
namespace strop::reference {

void prune(const PruneArgs& args);

void soft_threshold(const SoftThresholdArgs& args);
void soft_threshold_gradient(const SoftThresholdArgs& args);

void pack_mask(const MaskRows& rows);
void unpack_mask(const MaskRows& rows);

}  // namespace strop::reference
