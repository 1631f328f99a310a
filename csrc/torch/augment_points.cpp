#include "kernels/augment_points.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <optional>

#include "kernels/argument_error.h"
#include "kernels/augment_warped_boxes.h"
#include "torch/quantize_ops.h"
#include "torch/tensor_arguments.h"

namespace strop {
namespace {

constexpr bool is_wide(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat64; }

// The Python functions said it better; this keeps a raw call from reading elsewhere.
void check(const char* op, const TensorView& from, std::int64_t columns,
           const TensorView& matrices) {
  if (!is_wide(from.dtype) || !is_wide(matrices.dtype)) {
    throw_type_error(op, ": float32 or float64 is needed");
  }
  if (from.dims != 3 || from.shape[2] != columns || matrices.dims != 3 || matrices.shape[1] != 2 ||
      matrices.shape[2] != 3 || (matrices.shape[0] != from.shape[0] && matrices.shape[0] != 1)) {
    throw_value_error(op, ": [B, N, ", columns, "] and matrices of shape [B, 2, 3] are needed");
  }
}

// Calls function.operator()<T, M>(range) with the types of the elements, on ranges of samples that
// are worth a thread.
template <class Function>
void by_types(const TensorView& from, const TensorView& matrices, Function function) {
  const auto run = [&]<class T, class M>() {
    const std::int64_t grain = 4096 / std::max<std::int64_t>(from.shape[1], 1) + 1;
    torch_threads().for_range(from.shape[0], grain, [&](std::int64_t begin, std::int64_t end) {
      function.template operator()<T, M>(SampleRange{begin, end});
    });
  };
  const auto with = [&]<class T>() {
    matrices.dtype == DType::kFloat32 ? run.template operator()<T, float>()
                                      : run.template operator()<T, double>();
  };
  from.dtype == DType::kFloat32 ? with.template operator()<float>()
                                : with.template operator()<double>();
}

Tensor empty_beside(const Tensor& tensor, const TensorView& view) {
  return empty_of({view.shape, view.shape + view.dims}, view.dtype, tensor);
}

void points_op(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  const Tensor points = stack.take<Tensor>(), matrices = stack.take<Tensor>();
  const TensorView from = view_of(points), by = view_of(matrices);
  check("strop.warp_points", from, 2, by);
  Tensor out = empty_beside(points, from);
  by_types(from, by, [&]<class T, class M>(SampleRange range) {
    warp_points<T, M>(from, by, range, static_cast<T*>(out.data_ptr()));
  });
  values[0] = torch::stable::detail::from(std::move(out));
}

void run_boxes(StableIValue* values, bool visible) {
  Stack stack(values);
  const Tensor boxes = stack.take<Tensor>(), matrices = stack.take<Tensor>();
  const auto height = stack.take<std::int64_t>(), width = stack.take<std::int64_t>();
  const TensorView from = view_of(boxes), by = view_of(matrices);
  check("strop.warp_boxes", from, 4, by);
  const WarpedSize size = {static_cast<double>(height), static_cast<double>(width)};
  Tensor out = empty_beside(boxes, from);
  std::optional<Tensor> shares;
  if (visible) shares = empty_of({from.shape[0], from.shape[1]}, from.dtype, boxes);
  by_types(from, by, [&]<class T, class M>(SampleRange range) {
    T* const of_shares = visible ? static_cast<T*>(shares->data_ptr()) : nullptr;
    warp_boxes<T, M>(from, by, size, range,
                     WarpedBoxes<T>{static_cast<T*>(out.data_ptr()), of_shares});
  });
  values[0] = torch::stable::detail::from(std::move(out));
  if (visible) values[1] = torch::stable::detail::from(std::move(*shares));
}

void boxes_op(StableIValue* values, std::uint64_t, std::uint64_t) { run_boxes(values, false); }
void visible_op(StableIValue* values, std::uint64_t, std::uint64_t) { run_boxes(values, true); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) {
  m.def("_warp_points(Tensor points, Tensor matrices) -> Tensor");
  m.def("_warp_boxes(Tensor boxes, Tensor matrices, SymInt height, SymInt width) -> Tensor");
  m.def(
      "_warp_boxes_visible(Tensor boxes, Tensor matrices, SymInt height, SymInt width) -> (Tensor, "
      "Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) {
  m.impl("_warp_points", points_op);
  m.impl("_warp_boxes", boxes_op);
  m.impl("_warp_boxes_visible", visible_op);
}

}  // namespace strop
