#include "augment/warp_arguments.h"

#include <cmath>
#include <cstring>

#include "core/argument_error.h"

namespace strop::augment {
namespace {

// Of a number as an element of a mask; false where the dtype does not hold it.
template <class T>
bool set_bits(double value, std::uint64_t& bits) {
  // (2^64 is a double, the largest uint64 is none)
  const double beyond = std::ldexp(1.0, std::numeric_limits<T>::digits);
  if (!(value >= static_cast<double>(std::numeric_limits<T>::lowest()) && value < beyond)) {
    return false;
  }
  const T element = static_cast<T>(value);
  if (static_cast<double>(element) != value) return false;
  bits = 0;
  std::memcpy(&bits, &element, sizeof element);
  return true;
}

// The same; it is rounded, but a number does not become Inf.
template <class T>
bool set_float_bits(double value, std::uint64_t& bits) {
  const T element = FromFloat<T>::call(static_cast<decltype(to_float(T{}))>(value));
  bits = 0;
  std::memcpy(&bits, &element, sizeof element);
  return std::isfinite(to_float(element)) || !std::isfinite(value);
}

bool fill_bits(DType dtype, double value, std::uint64_t& bits) {
  switch (dtype) {
    case DType::kBool:
      bits = value != 0 ? 1 : 0;
      return value == 0 || value == 1;
    case DType::kUInt8:
      return set_bits<std::uint8_t>(value, bits);
    case DType::kInt8:
      return set_bits<std::int8_t>(value, bits);
    case DType::kUInt16:
      return set_bits<std::uint16_t>(value, bits);
    case DType::kInt16:
      return set_bits<std::int16_t>(value, bits);
    case DType::kUInt32:
      return set_bits<std::uint32_t>(value, bits);
    case DType::kInt32:
      return set_bits<std::int32_t>(value, bits);
    case DType::kUInt64:
      return set_bits<std::uint64_t>(value, bits);
    case DType::kInt64:
      return set_bits<std::int64_t>(value, bits);
    default:
      return by_dtype(dtype, [&]<class T>() { return set_float_bits<T>(value, bits); });
  }
}

bool is_mask(DType dtype) {
  return is_floating(dtype) || is_integer(dtype) || dtype == DType::kBool;
}

// [B, C, H, W], with one channel where there is no such dimension.
struct FourDims {
  std::int64_t shape[4];
  ImageStrides strides;
};

FourDims four_dims(const TensorView& view) {
  const int last = view.dims - 1;
  const bool channels = view.dims == 4;
  return {
      {view.shape[0], channels ? view.shape[1] : 1, view.shape[last - 1], view.shape[last]},
      {view.stride[0], channels ? view.stride[1] : 0, view.stride[last - 1], view.stride[last]}};
}

}  // namespace

void throw_fill_error(const char* op, DType dtype, double fill) {
  throw_value_error(op, ": fill is ", fill, ", which ", dtype_name(dtype), " does not hold");
}

void check_beside(const char* op, const char* name, const TensorView& view, const char* other_name,
                  const TensorView& other) {
  if (view.device == other.device) return;
  throw_value_error(op, ": ", name, " and ", other_name, " are on different devices");
}

void check_matrices(const char* op, const TensorView& matrices, const char* name,
                    const TensorView& images) {
  if (matrices.dtype != DType::kFloat32 && matrices.dtype != DType::kFloat64) {
    throw_type_error(op, ": matrices have dtype ", dtype_name(matrices.dtype),
                     "; float32 or float64 is needed");
  }
  check_beside(op, "matrices", matrices, name, images);
  const std::int64_t batch = images.shape[0];
  if (matrices.dims == 3 && (matrices.shape[0] == batch || matrices.shape[0] == 1) &&
      matrices.shape[1] == 2 && matrices.shape[2] == 3) {
    return;
  }
  throw_value_error(op, ": matrices have shape ", shape_text(matrices.shape, matrices.dims), "; [",
                    batch, ", 2, 3] is needed for ", batch, " ", name,
                    batch == 1 ? "" : ", or [1, 2, 3] for all");
}

void check_sides(const char* op, const char* name, const TensorView& images, const OutSize& size) {
  if (size && size->size() != 2) {
    throw_value_error(op, ": size has ", size->size(), " entries; rows and columns are needed");
  }
  if (size && ((*size)[0] < 0 || (*size)[1] < 0)) {
    throw_value_error(op, ": size is ", shape_text(size->data(), 2),
                      "; rows and columns must be 0 or more");
  }
  const auto check_side = [&](const char* what, std::int64_t side) {
    if (side <= kMaxImageSide) return;
    throw_value_error(op, ": ", what, " has a side of ", side, " pixels; at most ", kMaxImageSide,
                      " are supported");
  };
  for (int d = images.dims - 2; d < images.dims; ++d) check_side(name, images.shape[d]);
  for (int d = 0; size && d < 2; ++d) check_side("size", (*size)[static_cast<std::size_t>(d)]);
}

void check_warped(const char* op, const TensorView& out, const std::vector<std::int64_t>& shape,
                  DType dtype, std::initializer_list<Argument> inputs) {
  const Argument given = {"out", out}, &first = *inputs.begin();
  check_dtype(op, given, dtype);
  check_shape(op, given, shape);
  check_places(op, given);
  check_beside(op, "out", out, first.name, first.view);
  for (const Argument& input : inputs) check_apart(op, given, input);
}

Warp make_warp(const std::int64_t* from, const std::int64_t* to, const TensorView& matrices) {
  Warp warp;
  warp.batch = from[0];
  warp.channels = from[1];
  warp.in_height = from[2];
  warp.in_width = from[3];
  warp.out_height = to[2];
  warp.out_width = to[3];
  if (!matrices.present) {
    warp.fill_mode = FillMode::kNearest;
    return warp;
  }
  warp.matrices = matrices.data;
  warp.matrix_dtype = matrices.dtype;
  warp.matrix_strides = {matrices.shape[0] == 1 ? 0 : matrices.stride[0], matrices.stride[1],
                         matrices.stride[2]};
  return warp;
}

std::vector<std::int64_t> warped_shape(const TensorView& masks, const OutSize& size) {
  std::vector<std::int64_t> shape(masks.shape, masks.shape + masks.dims);
  for (std::size_t d = 0; size && d < 2; ++d) shape[shape.size() - 2 + d] = (*size)[d];
  return shape;
}

void check_warp_masks(const char* op, const MaskTensors& t, const OutSize& size, double fill) {
  if (!is_mask(t.masks.dtype)) {
    throw_type_error(op, ": masks have dtype ", dtype_name(t.masks.dtype),
                     "; bool, an integer or a floating dtype is needed");
  }
  if (t.masks.dims != 3 && t.masks.dims != 4) {
    throw_value_error(op, ": masks have shape ", shape_text(t.masks.shape, t.masks.dims),
                      "; [batch, rows, columns] or [batch, channels, rows, columns] is needed");
  }
  check_sides(op, "masks", t.masks, size);
  if (t.matrices.present) check_matrices(op, t.matrices, "masks", t.masks);
  std::uint64_t bits = 0;
  if (!fill_bits(t.masks.dtype, fill, bits)) throw_fill_error(op, t.masks.dtype, fill);
  if (!t.out.present) return;
  check_warped(op, t.out, warped_shape(t.masks, size), t.masks.dtype,
               {{"masks", t.masks}, {"matrices", t.matrices}});
}

WarpMasksArgs warp_masks_args(const MaskTensors& t, double fill) {
  const FourDims from = four_dims(t.masks), to = four_dims(t.out);
  WarpMasksArgs args = {.warp = make_warp(from.shape, to.shape, t.matrices),
                        .item = dtype_size(t.masks.dtype),
                        .in = t.masks.data,
                        .out = t.out.data,
                        .in_strides = from.strides,
                        .out_strides = to.strides};
  args.warp.interpolation = Interpolation::kNearest;
  fill_bits(t.masks.dtype, fill, args.fill);
  return args;
}

}  // namespace strop::augment
