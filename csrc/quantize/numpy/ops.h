#pragma once

#include "core/numpy/call.h"
#include "quantize/codes_ops.h"
#include "quantize/ops.h"

namespace strop::quantize {

#define STROP_OPTIONS                                                                      \
  "format='int8', block_size=None, rounding='half_even', symmetric=True, quant_min=None, " \
  "quant_max=None, eps=None"
#define STROP_SEEDED STROP_OPTIONS ", seed=None"

// quantize gives (codes, scale, zero_point, tensor_scale), None for what is not chosen, and
// choose_scale the same without codes.
template <class B>
constexpr ArrayOp<B> kQuantizeArrayOps[] = {
    {"fake_quantize(input, scale=None, zero_point=None, " STROP_SEEDED ", out=None, mask=None)",
     "strop.fake_quantize", fake_quantize<NumpyCall<B>, SpecBy::kOptions>},
    {"masked_gradient(gradient, mask, out=None)", "strop._masked_gradient",
     masked_gradient<NumpyCall<B>>},
    {"learned_gradient(gradient, input, scale, zero_point=None, " STROP_SEEDED ", grad_factor=1.0)",
     "strop._learned_gradient", learned_gradient<NumpyCall<B>, SpecBy::kOptions>},
    {"quantize(input, scale=None, zero_point=None, " STROP_SEEDED ")", "strop.quantize",
     quantize<NumpyCall<B>>},
    {"choose_scale(input, " STROP_SEEDED ")", "strop.choose_scale", choose_scale<NumpyCall<B>>},
    {"dequantize(codes, scale, zero_point=None, tensor_scale=None, shape=[], dtype='float32', "
     "out=None, " STROP_OPTIONS ")",
     "strop.dequantize", dequantize<NumpyCall<B>>},
    {"pack_bits(codes, bits)", "strop.pack_bits", pack_bits<NumpyCall<B>>},
    {"unpack_bits(packed, bits, count, out=None)", "strop.unpack_bits", unpack_bits<NumpyCall<B>>},
};

#undef STROP_OPTIONS
#undef STROP_SEEDED

}  // namespace strop::quantize
