#pragma once

#include "core/execution.h"
#include "cpu/quantize.h"
#include "kernels/quantize_codes.h"

namespace strop::cpu {

// The whole ops, on the instruction set in force or as told. float64 runs the reference loop.
struct QuantizeCodeKernels;
void quantize(const QuantizeArgs& args, const Parallel& parallel);
void quantize(const QuantizeArgs& args, const Parallel& parallel, const QuantizeRun& run);
void dequantize(const DequantizeArgs& args, const Parallel& parallel);
void dequantize(const DequantizeArgs& args, const Parallel& parallel, const QuantizeRun& run);

void pack_bits(const BitRows& rows, const Parallel& parallel);
void unpack_bits(const BitRows& rows, const Parallel& parallel);

// Codes of a row that are worked on at a time: whole bytes.
inline constexpr std::int64_t kBitPiece = 16384;

// A quantize in tiles: see Note [Quantize tiles]. What a tile's rows put out are whole bytes.
struct CodeTask {
  QuantizeTask task;  // `output` in bits
  ChosenScales chosen;
};

// The kernels, once per instruction set. `begin` and `end` are numbers of tiles, or of pieces of
// rows.
struct QuantizeCodeKernels {
  void (*quantize)(const CodeTask& task, std::int64_t begin, std::int64_t end);
  void (*dequantize)(const QuantizeTask& task, std::int64_t begin, std::int64_t end);
  void (*pack_bits)(const BitRows& rows, std::int64_t begin, std::int64_t end);
  void (*unpack_bits)(const BitRows& rows, std::int64_t begin, std::int64_t end);
};

const QuantizeCodeKernels& quantize_codes_kernels(Isa isa);
bool has_quantize_codes_kernels(Isa isa);

}  // namespace strop::cpu
