#include "core/check.h"

#include <algorithm>

#include "core/argument_error.h"

namespace strop {
namespace {

bool same_shape(const TensorView& a, const TensorView& b) {
  return a.dims == b.dims && std::equal(a.shape, a.shape + a.dims, b.shape);
}

}  // namespace

void check_dtype(const char* op, const Argument& given, DType wanted) {
  if (given.view.dtype == wanted) return;
  throw_type_error(op, ": ", given.name, " has dtype ", dtype_name(given.view.dtype), "; ",
                   dtype_name(wanted), " is needed");
}

void check_shape(const char* op, const Argument& given, const std::vector<std::int64_t>& wanted) {
  const TensorView& view = given.view;
  if (std::equal(wanted.begin(), wanted.end(), view.shape, view.shape + view.dims)) return;
  throw_value_error(op, ": ", given.name, " has shape ", shape_text(view.shape, view.dims), "; ",
                    shape_text(wanted.data(), static_cast<int>(wanted.size())), " is needed");
}

void check_contiguous(const char* op, const Argument& given) {
  if (is_contiguous(given.view)) return;
  throw_value_error(op, ": ", given.name, " is not contiguous");
}

void check_device(const char* op, const Argument& given, const Argument& beside) {
  if (given.view.device == beside.view.device) return;
  throw_value_error(op, ": ", given.name, " is on another device than ", beside.name,
                    "; both must be on one");
}

void check_dtype_like(const char* op, const Argument& given, const Argument& like) {
  if (given.view.dtype == like.view.dtype) return;
  throw_type_error(op, ": ", given.name, " has dtype ", dtype_name(given.view.dtype), "; ",
                   like.name, " has ", dtype_name(like.view.dtype));
}

void check_like(const char* op, const Argument& given, const Argument& like) {
  const TensorView &view = given.view, &other = like.view;
  check_dtype_like(op, given, like);
  check_device(op, given, like);
  if (same_shape(view, other)) return;
  throw_value_error(op, ": ", given.name, " has shape ", shape_text(view.shape, view.dims), "; ",
                    like.name, " has ", shape_text(other.shape, other.dims));
}

void check_places(const char* op, const Argument& out) {
  if (!overlaps_itself(out.view)) return;
  throw_value_error(op, ": elements of ", out.name,
                    " share memory (an expanded tensor?); each needs a place of its own");
}

void check_apart(const char* op, const Argument& out, const Argument& input) {
  if (!input.view.present || overlap(input.view, out.view) == Overlap::kNone) return;
  throw_value_error(op, ": ", out.name, " overlaps ", input.name, "; give a tensor apart");
}

void check_same_or_apart(const char* op, const Argument& out, const Argument& input) {
  if (overlap(input.view, out.view) != Overlap::kPartial) return;
  throw_value_error(op, ": ", out.name, " overlaps ", input.name,
                    " in part; give the same tensor, or one apart");
}

}  // namespace strop
