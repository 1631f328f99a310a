#pragma once

// Products of integers, which integer_codes.cu has.

#include "core/cuda/launch.h"
#include "linear/packed_codes.h"

namespace strop::linear::cuda {

std::size_t input_codes_bytes(const PackedCodesArgs& args);
void multiply_integers(const PackedCodesArgs& args, void* workspace, const Launch& on);

}  // namespace strop::linear::cuda
