#pragma once

// The kernels that cpu/quantize.cpp's table takes from other files, of one instruction set.

#include "cpu/quantize.h"

namespace strop::cpu::STROP_ISA {

void quantize_codes(const CodeTask& task, std::int64_t begin, std::int64_t end);
void dequantize(const QuantizeTask& task, std::int64_t begin, std::int64_t end);
void pack_bits(const BitRows& rows, std::int64_t begin, std::int64_t end);
void unpack_bits(const BitRows& rows, std::int64_t begin, std::int64_t end);
void masked_gradient(const MaskedGradientArgs& args, bool stream, std::int64_t begin,
                     std::int64_t end);
void learned_gradient(const LearnedTask& task, std::int64_t begin, std::int64_t end);

}  // namespace strop::cpu::STROP_ISA
