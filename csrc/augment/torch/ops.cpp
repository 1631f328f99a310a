#include "core/torch/op_table.h"
// (the ops find view_of there)
#include "augment/ops.h"

namespace strop::augment {
namespace {

// mean and std travel as numbers where they can, so that nothing is copied to a GPU; as tensors
// they stay where they are. Tensors are no keywords: torch's vmap does not look for any there.
#define STROP_IMAGES                                                                              \
  "(Tensor images, Tensor? matrices=None, Tensor? mean_tensor=None, Tensor? std_tensor=None, *, " \
  "SymInt[]? size=None, float[]? mean=None, float[]? std=None, str interpolation='bilinear', "    \
  "str fill_mode='constant', float[] fill=[0.0], ScalarType dtype=float"
#define STROP_MASKS "(Tensor masks, Tensor? matrices=None, *, SymInt[]? size=None, float fill=0.0"

template <class B>
constexpr OpRow kOps[] = {
    {"augment_images" STROP_IMAGES ", bool channels_last=False) -> Tensor",
     boxed<augment_images<New<B>>>},
    {"augment_images.out" STROP_IMAGES ", Tensor(a!) out) -> ()", boxed<augment_images<Given<B>>>},
    // Of images of `size` and `dtype`; the gradient has the size of augment_images' result.
    {"_augment_gradient(Tensor gradient, Tensor? matrices, Tensor? std_tensor, *, SymInt[] size, "
     "float[]? std=None, str interpolation='bilinear', str fill_mode='constant', "
     "ScalarType dtype=float, bool channels_last=False) -> Tensor",
     boxed<augment_gradient<New<B>>>},
    {"warp_masks" STROP_MASKS ") -> Tensor", boxed<warp_masks<New<B>>>},
    {"warp_masks.out" STROP_MASKS ", Tensor(a!) out) -> ()", boxed<warp_masks<Given<B>>>},
};

}  // namespace

STROP_OPS(kOps)

}  // namespace strop::augment
