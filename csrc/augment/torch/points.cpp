#include "core/torch/op_table.h"
// (the ops find view_of there)
#include "augment/ops.h"

namespace strop::augment {
namespace {

// On a GPU Python computes with torch's ops: this source is not compiled for that library.
#define STROP_BOXES "(Tensor boxes, Tensor matrices, SymInt height, SymInt width)"

template <class B>
constexpr OpRow kOps[] = {
    {"_warp_points(Tensor points, Tensor matrices) -> Tensor", boxed<warp_points<New<B>>>},
    {"_warp_boxes" STROP_BOXES " -> Tensor", boxed<warp_boxes<New<B>, false>>},
    {"_warp_boxes_visible" STROP_BOXES " -> (Tensor, Tensor)", boxed<warp_boxes<New<B>, true>>},
};

}  // namespace

STROP_OPS(kOps)

}  // namespace strop::augment
