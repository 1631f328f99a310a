#pragma once

#include "kernels/quantize_codes.h"

// The oracle of quantize and dequantize: a code at a time, bit by bit.
namespace strop::reference {

void quantize(const QuantizeArgs& args);
void dequantize(const DequantizeArgs& args);

void pack_bits(const BitRows& rows);
void unpack_bits(const BitRows& rows);

}  // namespace strop::reference
