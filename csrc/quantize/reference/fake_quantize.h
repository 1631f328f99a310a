#pragma once

#include "quantize/fake_quantize.h"

// The oracle: the formulas of quantize/fake_quantize.h once more, in the plainest scalar loops that
// say them, sharing no arithmetic with the kernels that are checked against it. Any layout, all
// four floating dtypes.
namespace strop::quantize::reference {

// A share of fake_quantize. Blocks are numbered row-major. Scales in two levels have to be
// prepared: `tensor_scale` holds the upper one.
std::int64_t block_count(const FakeQuantizeArgs& args);
FakeQuantizeArgs prepared(const FakeQuantizeArgs& args, double& tensor_scale);
void fake_quantize(const FakeQuantizeArgs& args, std::int64_t first_block, std::int64_t last_block);

}  // namespace strop::quantize::reference
