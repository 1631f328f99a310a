#pragma once

// Products of weights in codes beside a mask, which kept_codes.cu has.

#include "core/cuda/launch.h"
#include "linear/packed_codes.h"

namespace strop::linear::cuda {

void multiply_kept(const PackedCodesArgs& args, const Launch& on);

}  // namespace strop::linear::cuda
