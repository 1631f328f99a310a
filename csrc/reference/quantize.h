#pragma once

#include "kernels/quantize_gradient.h"

// The oracle: the formulas of kernels/quantize.h once more, in the plainest scalar loops that say
// them, sharing no arithmetic with the kernels that are checked against it.
namespace strop::reference {

// Works on any layout, on all four floating dtypes.
void fake_quantize(const FakeQuantizeArgs& args);

// A share of it. Blocks are numbered row-major. Scales in two levels have to be prepared: `room`
// holds the upper one.
std::int64_t block_count(const FakeQuantizeArgs& args);
FakeQuantizeArgs prepared(const FakeQuantizeArgs& args, double& room);
void fake_quantize(const FakeQuantizeArgs& args, std::int64_t first_block, std::int64_t last_block);

// Sums in double.
void masked_gradient(const MaskedGradientArgs& args);
void learned_gradient(const LearnedGradientArgs& args);

}  // namespace strop::reference
