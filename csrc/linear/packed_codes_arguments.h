#pragma once

#include "core/tensor_view.h"
#include "linear/packed_codes.h"
#include "quantize/codes_arguments.h"

namespace strop::linear {

// Checks of what a caller hands to a GPU; each throws ArgumentError before anything is allocated.
// What zero points hold is not looked at: where integers are multiplied they have to be codes. Nor
// is what bits and starts hold.

struct PackedCodesTensors : quantize::DequantizeTensors {
  TensorView bits = {};    // of a mask, [N, ceil(K / 8)]; not present: all is kept
  TensorView starts = {};  // beside it, [N + 1]
};

// A weight in codes of at most 8 bits, as dequantize takes it, of a shape that is a matrix's; of a
// mask's codes those that are kept, as one row.
PackedCodes packed_codes(const char* op, const quantize::QuantizeSpec& spec,
                         PackedCodesTensors tensors, const std::vector<std::int64_t>& shape);

// By their name, after it is known that they go with the weight.
Activations checked_activations(const char* op, const PackedCodes& weight, const std::string& name);

}  // namespace strop::linear
