#pragma once

#include "core/tensor_view.h"
#include "linear/codes.h"

namespace strop::linear {

// What a caller hands over to be laid out for a CPU.
struct CodesTensors {
  TensorView codes;       // uint8 [N, K], a byte a code
  TensorView scale;       // float32 [N, groups]
  TensorView zero_point;  // float32 likewise, or absent: 0
  TensorView bits;        // uint8 [N, ceil(K / 8)], of those that a mask keeps, or absent: all
};

// Throws ArgumentError before anything is allocated. `group` columns share a scale.
CodesMatrix codes_matrix(const char* op, const CodesTensors& tensors, const std::string& format,
                         const std::string& activations, std::int64_t group);

}  // namespace strop::linear
