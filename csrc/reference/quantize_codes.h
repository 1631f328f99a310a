#pragma once

#include "kernels/quantize_codes.h"

// The oracle of quantize and dequantize: a code at a time, bit by bit.
namespace strop::reference {

void quantize(const QuantizeArgs& args);
void dequantize(const DequantizeArgs& args);

// Codes of so many bits, densely packed from a byte on, and back.
void pack_bits(const std::uint8_t* codes, std::int64_t count, int bits, std::uint8_t* packed);
void unpack_bits(const std::uint8_t* packed, std::int64_t count, int bits, std::uint8_t* codes);

}  // namespace strop::reference
