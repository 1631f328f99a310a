#include "core/torch/op_table.h"
// (the ops find view_of there)
#include "quantize/codes_ops.h"
#include "quantize/ops.h"

namespace strop::quantize {
namespace {

// An empty block_size is the whole tensor. The private ops for eager calls have an interned
// specification instead of the options.
#define STROP_OPTIONS                                                                         \
  "Tensor? scale, Tensor? zero_point, str format, int[] block_size, str rounding, bool "      \
  "symmetric, SymInt? seed=None, int? quant_min=None, int? quant_max=None, float? eps=None, " \
  "Tensor? seed_tensor=None"
#define STROP_FAKE_OPTIONS STROP_OPTIONS ", float grad_factor=1.0"
#define STROP_SPEC "Tensor? scale, Tensor? zero_point, int spec, int? seed=None"
#define STROP_CODES                                                                          \
  "Tensor codes, Tensor scale, Tensor? zero_point, Tensor? tensor_scale, str format, int[] " \
  "block_size, "
#define STROP_OUT "*, Tensor(a!) out) -> ()"

constexpr SpecBy kOptions = SpecBy::kOptions, kIndex = SpecBy::kIndex;

template <class B>
constexpr OpRow kOps[] = {
    {"fake_quantize(Tensor x, " STROP_FAKE_OPTIONS ") -> Tensor",
     boxed<fake_quantize<New<B>, kOptions>>},
    {"fake_quantize.out(Tensor x, " STROP_FAKE_OPTIONS ", " STROP_OUT,
     boxed<fake_quantize<Given<B>, kOptions>>},
    {"fake_quantize_(Tensor(a!) x, " STROP_FAKE_OPTIONS ") -> ()",
     boxed<fake_quantize<InPlace<B>, kOptions>>},
    {"_fake_quantize(Tensor x, " STROP_SPEC ") -> Tensor", boxed<fake_quantize<New<B>, kIndex>>},
    {"_fake_quantize.out(Tensor x, " STROP_SPEC ", " STROP_OUT,
     boxed<fake_quantize<Given<B>, kIndex>>},
    {"_fake_quantize_(Tensor(a!) x, " STROP_SPEC ") -> ()",
     boxed<fake_quantize<InPlace<B>, kIndex>>},
    {"_fake_quantize_with_mask(Tensor x, " STROP_FAKE_OPTIONS ") -> (Tensor, Tensor)",
     boxed<fake_quantize_with_mask<New<B>, kOptions>>},
    {"_fake_quantize_with_mask.packed(Tensor x, " STROP_SPEC ") -> (Tensor, Tensor)",
     boxed<fake_quantize_with_mask<New<B>, kIndex>>},
    {"_masked_gradient(Tensor gradient, Tensor mask) -> Tensor", boxed<masked_gradient<New<B>>>},
    {"_masked_gradient.out(Tensor gradient, Tensor mask, " STROP_OUT,
     boxed<masked_gradient<Given<B>>>},
    {"_learned_gradient(Tensor gradient, Tensor x, " STROP_FAKE_OPTIONS
     ") -> (Tensor, Tensor, Tensor)",
     boxed<learned_gradient<New<B>, kOptions>>},
    {"_learned_gradient.packed(Tensor gradient, Tensor x, " STROP_SPEC
     ", float grad_factor=1.0) -> (Tensor, Tensor, Tensor)",
     boxed<learned_gradient<New<B>, kIndex>>},
    {"quantize(Tensor x, " STROP_OPTIONS ") -> (Tensor, Tensor, Tensor, Tensor)",
     boxed<quantize<New<B>>>},
    {"choose_scale(Tensor x, str format, int[] block_size, bool symmetric, int? quant_min=None, "
     "int? quant_max=None, float? eps=None) -> (Tensor, Tensor, Tensor)",
     boxed<choose_scale<New<B>>>},
    {"dequantize(" STROP_CODES "SymInt[] shape, ScalarType dtype) -> Tensor",
     boxed<dequantize<New<B>>>},
    {"dequantize.out(" STROP_CODES STROP_OUT, boxed<dequantize<Given<B>>>},
    {"pack_bits(Tensor codes, int bits) -> Tensor", boxed<pack_bits<New<B>>>},
    {"unpack_bits(Tensor packed, int bits, SymInt count) -> Tensor", boxed<unpack_bits<New<B>>>},
    {"unpack_bits.out(Tensor packed, int bits, SymInt count, " STROP_OUT,
     boxed<unpack_bits<Given<B>>>},
};

}  // namespace

STROP_OPS(kOps)

}  // namespace strop::quantize
