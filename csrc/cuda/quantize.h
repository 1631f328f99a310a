#pragma once

#include <cstddef>

#include "cuda/launch.h"
#include "kernels/quantize_gradient.h"

namespace strop::cuda {

// The whole op, to the bit as on the CPU. Nothing is allocated and nothing waited for; blocks that
// one thread block cannot hold need a workspace of so many bytes (0: none), of any content.
std::size_t fake_quantize_workspace(const FakeQuantizeArgs& args, const Launch& on);
void fake_quantize(const FakeQuantizeArgs& args, void* workspace, const Launch& on);

void masked_gradient(const MaskedGradientArgs& args, const Launch& on);

// To the bit as on the CPU, but for float64, whose sums are in another order there. A workspace as
// above.
std::size_t learned_gradient_workspace(const LearnedGradientArgs& args);
void learned_gradient(const LearnedGradientArgs& args, void* workspace, const Launch& on);

}  // namespace strop::cuda
