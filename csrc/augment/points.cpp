#include "augment/points.h"

#include "core/argument_error.h"

namespace strop::augment {
namespace {

constexpr bool is_wide(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat64; }

}  // namespace

// The Python functions say it better; this keeps a raw call from reading elsewhere.
void check_warped_items(const char* op, const TensorView& items, std::int64_t coordinates,
                        const TensorView& matrices) {
  if (!is_wide(items.dtype) || !is_wide(matrices.dtype)) {
    throw_type_error(op, ": float32 or float64 is needed");
  }
  if (items.dims != 3 || items.shape[2] != coordinates || matrices.dims != 3 ||
      matrices.shape[1] != 2 || matrices.shape[2] != 3 ||
      (matrices.shape[0] != items.shape[0] && matrices.shape[0] != 1)) {
    throw_value_error(op, ": [B, N, ", coordinates, "] and matrices of shape [B, 2, 3] are needed");
  }
}

WarpedItems warped_items(const TensorView& items, const TensorView& matrices) {
  return {.dtype = items.dtype,
          .matrix_dtype = matrices.dtype,
          .samples = items.shape[0],
          .count = items.shape[1],
          .items = items.data,
          .stride = {items.stride[0], items.stride[1], items.stride[2]},
          .matrices = matrices.data,
          .matrix_strides = {matrices.shape[0] == 1 ? 0 : matrices.stride[0], matrices.stride[1],
                             matrices.stride[2]}};
}

}  // namespace strop::augment
