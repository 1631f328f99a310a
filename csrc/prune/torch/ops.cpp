#include "core/torch/op_table.h"
// (the ops find view_of there)
#include "prune/ops.h"

namespace strop::prune {
namespace {

#define STROP_AMOUNT ", float? amount=None, Tensor? amount_tensor=None"

template <class B>
constexpr OpRow kOps[] = {
    {"prune_mask(Tensor weight, float? threshold=None, float? sparsity=None, "
     "str pattern='unstructured', int[] block_size=[], str per='tensor', str norm='l1') -> Tensor",
     boxed<prune_mask<New<B>>>},
    {"prune_masks(Tensor[] weights, float? sparsity=None, str pattern='unstructured', "
     "int[] block_size=[], str norm='l1') -> Tensor[]",
     boxed<prune_masks<New<B>>>},
    {"soft_threshold(Tensor weight" STROP_AMOUNT ") -> Tensor", boxed<soft_threshold<New<B>>>},
    {"soft_threshold.out(Tensor weight" STROP_AMOUNT ", *, Tensor(a!) out) -> ()",
     boxed<soft_threshold<Given<B>>>},
    {"soft_threshold_(Tensor(a!) weight" STROP_AMOUNT ") -> ()", boxed<soft_threshold<InPlace<B>>>},
    {"_soft_threshold_gradient(Tensor gradient, Tensor weight" STROP_AMOUNT ") -> Tensor",
     boxed<soft_threshold_gradient<New<B>>>},
    {"pack_mask(Tensor mask) -> Tensor", boxed<pack_mask<New<B>>>},
    {"unpack_mask(Tensor bits, SymInt K) -> Tensor", boxed<unpack_mask<New<B>>>},
};

}  // namespace

STROP_OPS(kOps)

}  // namespace strop::prune
