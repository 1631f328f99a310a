#pragma once

#include "cpu/quantize.h"
#include "kernels/quantize_codes.h"

namespace strop::cpu {

// The whole ops, on the instruction set in force or as told. float64 runs the reference loop.
struct QuantizeCodeKernels;
void quantize(const QuantizeArgs& args, const Parallel& parallel);
void quantize(const QuantizeArgs& args, const Parallel& parallel, const QuantizeRun& run);
void dequantize(const DequantizeArgs& args, const Parallel& parallel);
void dequantize(const DequantizeArgs& args, const Parallel& parallel, const QuantizeRun& run);

// Rows of `count` codes of a byte each, densely packed, each row from a byte of its own on. They
// are worked on in pieces.
struct BitRows {
  const void* from;
  void* to;
  std::int64_t rows;
  std::int64_t count;
  int bits;

  std::int64_t pieces() const { return divide_up(count, kPiece); }  // of a row
  static constexpr std::int64_t kPiece = 16384;
};
void pack_bits(const BitRows& rows, const Parallel& parallel);
void unpack_bits(const BitRows& rows, const Parallel& parallel);

// A quantize in tiles: see Note [Quantize tiles]. What a tile's rows put out are whole bytes.
struct CodeTask {
  QuantizeTask task;  // `output` in bits
  ChosenScales chosen;
};

// The kernels, once per instruction set. `begin` and `end` are numbers of tiles or pieces.
struct QuantizeCodeKernels {
  void (*quantize)(const CodeTask& task, std::int64_t begin, std::int64_t end);
  void (*dequantize)(const QuantizeTask& task, std::int64_t begin, std::int64_t end);
  void (*pack_bits)(const BitRows& rows, std::int64_t begin, std::int64_t end);
  void (*unpack_bits)(const BitRows& rows, std::int64_t begin, std::int64_t end);
};

}  // namespace strop::cpu
