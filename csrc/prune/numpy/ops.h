#pragma once

#include "core/numpy/call.h"
#include "prune/ops.h"

namespace strop::prune {

template <class B>
constexpr ArrayOp<B> kPruneArrayOps[] = {
    {"prune_mask(weight, threshold=None, sparsity=None, pattern='unstructured', block_size=[], "
     "per='tensor', norm='l1')",
     "strop.prune_mask", prune_mask<NumpyCall<B>>},
    {"prune_masks(weights, sparsity=None, pattern='unstructured', block_size=[], norm='l1')",
     "strop.prune_masks", prune_masks<NumpyCall<B>>},
    {"soft_threshold(weight, amount, out=None)", "strop.soft_threshold",
     soft_threshold<NumpyCall<B>>},
    {"soft_threshold_gradient(gradient, weight, amount)", "strop.soft_threshold",
     soft_threshold_gradient<NumpyCall<B>>},
    {"pack_mask(mask)", "strop.pack_mask", pack_mask<NumpyCall<B>>},
    {"unpack_mask(bits, K)", "strop.unpack_mask", unpack_mask<NumpyCall<B>>},
};

}  // namespace strop::prune
