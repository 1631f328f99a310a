#pragma once

#include "quantize/fake_quantize.h"

namespace strop::quantize {

// The tensors of one call. `output` is not present where the caller has yet to allocate it.
struct FakeQuantizeTensors {
  TensorView input;
  TensorView scale;
  TensorView zero_point;
  TensorView output;
};

// Checks everything that can be checked before the output exists; throws ArgumentError.
void check_fake_quantize(const char* op, const QuantizeSpec& spec,
                         const FakeQuantizeTensors& tensors, bool has_seed);

// The same of a parameter alone: device and shape.
void check_parameter(const char* op, const char* name, const QuantizeSpec& spec,
                     const TensorView& input, const TensorView& parameter);

// The kernel's arguments from checked tensors, `output` included.
FakeQuantizeArgs fake_quantize_args(const QuantizeSpec& spec, const FakeQuantizeTensors& tensors,
                                    std::uint64_t seed);

// The same problem in as few dimensions as describe it, ordered for the walk through memory: unit
// steps innermost. No result depends on it. `ordered`: codes that share bytes stay neighbours.
FakeQuantizeArgs simplified(FakeQuantizeArgs args, bool ordered = false);

// A simplified problem in tiles of so many rows of a slab by so many columns.
TileShape tile_shape(const FakeQuantizeArgs& args, std::int64_t rows, std::int64_t columns);

// Makes the steps of scale and zero point those of parameters that lie in the order of the blocks,
// row-major; returns how many blocks there are.
std::int64_t assign_block_strides(FakeQuantizeArgs& args);

}  // namespace strop::quantize
