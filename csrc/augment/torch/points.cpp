#include "core/torch/op_table.h"
// (the ops find view_of there)
#include "augment/ops.h"

namespace strop::augment {
namespace {

// On a GPU Python computes with torch's ops.
#define STROP_BOXES "(Tensor boxes, Tensor matrices, SymInt height, SymInt width)"

template <class B>
constexpr OpRow kPointOps[] = {
    {"_warp_points(Tensor points, Tensor matrices) -> Tensor",
     STROP_CPU_OR_GPU(boxed<warp_points<New<B>>>, nullptr)},
    {"_warp_boxes" STROP_BOXES " -> Tensor",
     STROP_CPU_OR_GPU((boxed<warp_boxes<New<B>, false>>), nullptr)},
    {"_warp_boxes_visible" STROP_BOXES " -> (Tensor, Tensor)",
     STROP_CPU_OR_GPU((boxed<warp_boxes<New<B>, true>>), nullptr)},
};

}  // namespace

STROP_OPS(kPointOps)

}  // namespace strop::augment
