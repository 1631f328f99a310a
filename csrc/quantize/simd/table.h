#pragma once

// The kernels that quantize/simd/fake_quantize.cpp's table takes from other files, of one
// instruction set.

#include "core/simd/vector.h"
#include "quantize/kernels.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

void quantize_codes(const CodeTask& task, std::int64_t begin, std::int64_t end);
void dequantize(const QuantizeTask& task, std::int64_t begin, std::int64_t end);
void pack_bits(const BitRows& rows, std::int64_t begin, std::int64_t end);
void unpack_bits(const BitRows& rows, std::int64_t begin, std::int64_t end);
void masked_gradient(const MaskedGradientArgs& args, bool stream, std::int64_t begin,
                     std::int64_t end);
void learned_gradient(const LearnedTask& task, std::int64_t begin, std::int64_t end);

}  // namespace strop::quantize::simd::STROP_ISA
