#pragma once

#include "cuda/launch.h"
#include "kernels/quantize_codes.h"

namespace strop::cuda {

// Bytes of workspace that quantize needs, 0 for none.
std::size_t quantize_workspace(const QuantizeArgs& args);
void quantize(const QuantizeArgs& args, void* workspace, const Launch& on);

void dequantize(const DequantizeArgs& args, const Launch& on);

void pack_bits(const BitRows& rows, const Launch& on);
void unpack_bits(const BitRows& rows, const Launch& on);

}  // namespace strop::cuda
