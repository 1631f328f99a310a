#pragma once

#include "quantize/arguments.h"
#include "quantize/codes.h"

namespace strop::quantize {

// The tensors of one call of quantize, or of choose_scale, which has no codes.
struct QuantizeTensors {
  FakeQuantizeTensors forward;  // without output
  TensorView codes;
  TensorView chosen_scale;  // present where scale is not
  TensorView chosen_zero_point;
  TensorView chosen_tensor_scale;
};

// What quantize allocates: sizes of axes, or of the grid of blocks.
std::vector<std::int64_t> codes_shape(const QuantizeSpec& spec, const TensorView& input);
std::vector<std::int64_t> blocks_shape(const QuantizeSpec& spec, const TensorView& input);
DType codes_dtype(const QuantizeSpec& spec);
DType chosen_scale_dtype(const QuantizeSpec& spec, DType input);
// Whether a chosen zero point is other than 0.
bool chooses_zero_point(const QuantizeSpec& spec);

// Throws ArgumentError, before anything is allocated.
void check_quantize(const char* op, const QuantizeSpec& spec, const FakeQuantizeTensors& tensors,
                    bool has_seed);
QuantizeArgs quantize_args(const QuantizeSpec& spec, const QuantizeTensors& tensors,
                           std::uint64_t seed);

struct DequantizeTensors {
  TensorView codes;
  TensorView scale;
  TensorView zero_point;
  TensorView tensor_scale;
  TensorView output;
};

void check_dequantize_dtype(const char* op, DType dtype);
void check_dequantize(const char* op, const QuantizeSpec& spec, const DequantizeTensors& tensors);
DequantizeArgs dequantize_args(const QuantizeSpec& spec, const DequantizeTensors& tensors);

// Codes of a byte each, and as many to a row as the last axis has.
void check_pack(const char* op, const TensorView& codes, std::int64_t bits);
void check_unpack(const char* op, const TensorView& packed, std::int64_t bits, std::int64_t count);
void check_unpack_out(const char* op, const TensorView& packed, std::int64_t count,
                      const TensorView& out);
// Of the codes' shape.
BitRows bit_rows(const std::int64_t* shape, int dims, std::int64_t bits, const void* from,
                 void* to);

}  // namespace strop::quantize
