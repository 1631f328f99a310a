#include "core/tensor_view.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

namespace strop {
namespace {

struct Axis {
  std::int64_t size;
  std::int64_t step;  // bytes, positive
};

// The bytes that a tensor touches: [begin, end), and its axes of more than one element, widest
// stride first.
struct Footprint {
  std::intptr_t begin;
  std::intptr_t end;
  std::array<Axis, 64> axes;  // 64-bit indices have no more of them
  int count = 0;
};

Footprint footprint(const TensorView& view) {
  const std::int64_t item = dtype_size(view.dtype);
  Footprint result;
  result.begin = reinterpret_cast<std::intptr_t>(view.data);
  result.end = result.begin + item;
  for (int d = 0; d < view.dims; ++d) {
    if (view.shape[d] == 1) continue;
    const std::int64_t step = view.stride[d] * item;
    const std::int64_t reach = (view.shape[d] - 1) * step;
    (reach < 0 ? result.begin : result.end) += reach;
    result.axes[result.count++] = {view.shape[d], std::abs(step)};
  }
  std::sort(result.axes.begin(), result.axes.begin() + result.count,
            [](const Axis& a, const Axis& b) { return a.step > b.step; });
  return result;
}

// Each stride steps over everything that the smaller ones reach: no two elements meet, and a byte
// offset has at most one index.
bool nested(const Footprint& f, std::int64_t item) {
  std::int64_t reach = item;
  for (int i = f.count - 1; i >= 0; --i) {
    if (f.axes[i].step < reach) return false;
    reach += (f.axes[i].size - 1) * f.axes[i].step;
  }
  return true;
}

bool same_axes(const Footprint& a, const Footprint& b) {
  if (a.count != b.count) return false;
  return std::equal(a.axes.begin(), a.axes.begin() + a.count, b.axes.begin(),
                    [](const Axis& x, const Axis& y) { return x.step == y.step; });
}

// Whether indices i of a and j of b exist whose elements share a byte: sum_d (i_d - j_d) step_d
// lies within an item of delta. With nested strides at most three differences per axis can do it.
bool meets(const Footprint& a, const Footprint& b, int axis, std::int64_t delta,
           std::int64_t item) {
  if (axis == a.count) return std::abs(delta) < item;
  const std::int64_t step = a.axes[axis].step;
  const std::int64_t near = delta / step;
  for (std::int64_t k = near - 1; k <= near + 1; ++k) {
    if (k > a.axes[axis].size - 1 || -k > b.axes[axis].size - 1) continue;
    const std::int64_t rest = delta - k * step;
    if (std::abs(rest) < 2 * step && meets(a, b, axis + 1, rest, item)) return true;
  }
  return false;
}

bool same_layout(const TensorView& a, const TensorView& b) {
  if (a.data != b.data || a.dtype != b.dtype || a.dims != b.dims) return false;
  for (int d = 0; d < a.dims; ++d) {
    if (a.shape[d] != b.shape[d]) return false;
    if (a.shape[d] > 1 && a.stride[d] != b.stride[d]) return false;
  }
  return true;
}

}  // namespace

std::int64_t TensorView::numel() const {
  std::int64_t count = 1;
  for (int d = 0; d < dims; ++d) count *= shape[d];
  return count;
}

bool is_dense(const TensorView& view) {
  if (view.dims > kMaxDims) return false;
  std::pair<std::int64_t, std::int64_t> axes[kMaxDims];
  int count = 0;
  for (int d = 0; d < view.dims; ++d) {
    if (view.shape[d] == 0) return true;
    if (view.shape[d] != 1) axes[count++] = {view.stride[d], view.shape[d]};
  }
  std::sort(axes, axes + count);
  std::int64_t expected = 1;  // each dimension steps over all that step less
  for (int i = 0; i < count; ++i) {
    if (axes[i].first != expected) return false;
    expected *= axes[i].second;
  }
  return true;
}

bool is_contiguous(const TensorView& view) {
  if (view.numel() == 0) return true;
  std::int64_t expected = 1;
  for (int d = view.dims - 1; d >= 0; --d) {
    if (view.shape[d] != 1 && view.stride[d] != expected) return false;
    expected *= view.shape[d];
  }
  return true;
}

std::vector<std::int64_t> shape_with_last(const TensorView& view, std::int64_t size) {
  std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
  shape.back() = size;
  return shape;
}

std::string shape_text(const std::int64_t* shape, int dims) {
  std::string text = "[";
  for (int d = 0; d < dims; ++d) {
    if (d > 0) text += ", ";
    text += std::to_string(shape[d]);
  }
  return text + "]";
}

Overlap overlap(const TensorView& a, const TensorView& b) {
  if (a.numel() == 0 || b.numel() == 0) return Overlap::kNone;
  if (a.data == nullptr || b.data == nullptr) return Overlap::kNone;  // shapes alone
  if (same_layout(a, b)) return Overlap::kSame;
  const Footprint fa = footprint(a);
  const Footprint fb = footprint(b);
  if (fa.end <= fb.begin || fb.end <= fa.begin) return Overlap::kNone;
  const std::int64_t item = dtype_size(a.dtype);
  if (a.dtype != b.dtype || !same_axes(fa, fb) || !nested(fa, item) || !nested(fb, item)) {
    return Overlap::kPartial;
  }
  // Both are walked in ascending addresses from their lowest byte, whatever the signs of the
  // strides.
  return meets(fa, fb, 0, fb.begin - fa.begin, item) ? Overlap::kPartial : Overlap::kNone;
}

bool overlaps_itself(const TensorView& view) {
  return view.numel() > 1 && !nested(footprint(view), dtype_size(view.dtype));
}

}  // namespace strop
