#pragma once

#include "quantize/arguments.h"
#include "quantize/gradient.h"

namespace strop::quantize {

// Bytes of the mask of so many elements: whole words of 32 bits, which GPUs write.
constexpr std::int64_t mask_bytes(std::int64_t count) { return (count + 31) / 32 * 4; }

// Whether a mask, where one is wanted, can be made; throws ArgumentError. Its bits stand for places
// in the output, so that one must be dense, and scales must be given.
void check_fake_quantize_mask(const char* op, const FakeQuantizeTensors& tensors,
                              const TensorView& mask);

struct MaskedGradientTensors {
  TensorView gradient;
  TensorView mask;
  TensorView output;  // not present where the caller has yet to allocate it
};

void check_masked_gradient(const char* op, const MaskedGradientTensors& tensors);
MaskedGradientArgs masked_gradient_args(const MaskedGradientTensors& tensors);

// Those that are written are the caller's own, of the layout of what they are gradients of.
struct LearnedGradientTensors {
  FakeQuantizeTensors forward;  // output is the gradient of the input
  TensorView gradient;
  TensorView scale_gradient;
  TensorView zero_gradient;  // not present for integer zero points
};

void check_learned_gradient(const char* op, const QuantizeSpec& spec,
                            const LearnedGradientTensors& tensors, bool has_seed);
LearnedGradientArgs learned_gradient_args(const QuantizeSpec& spec,
                                          const LearnedGradientTensors& tensors, std::uint64_t seed,
                                          double factor);

}  // namespace strop::quantize
