#include "linear/bitmap_arguments.h"

#include "core/argument_error.h"
#include "linear/arguments.h"

namespace strop::linear {

void check_bitmap_dtype(const char* op, const char* name, DType dtype) {
  if (is_floating(dtype) && dtype != DType::kFloat64) return;
  throw_type_error(op, ": ", name, " has dtype ", dtype_name(dtype),
                   "; on a GPU float32, bfloat16 or float16 is needed");
}

void check_bitmap_columns(const char* op, std::int64_t columns) {
  if (columns <= kMaxBitmapColumns) return;
  throw_value_error(op, ": the weight has ", columns, " columns; on a GPU at most ",
                    kMaxBitmapColumns, " are possible");
}

void check_starts(const char* op, const TensorView& starts, std::int64_t rows,
                  const Argument& beside) {
  const Argument given = {"starts", starts};
  check_dtype(op, given, DType::kInt64);
  check_shape(op, given, {rows + 1});
  check_contiguous(op, given);
  check_device(op, given, beside);
}

BitmapMatrix bitmap_matrix(const char* op, const BitmapTensors& tensors, std::int64_t columns) {
  const TensorView& starts = tensors.starts;
  if (!tensors.on_cpu) check_bitmap_dtype(op, "values", tensors.values.dtype);
  const MaskedMatrix matrix = shaped_matrix(op, tensors.bits, tensors.values, columns);
  if (!tensors.on_cpu) check_bitmap_columns(op, columns);
  check_starts(op, starts, matrix.rows, {"bits", tensors.bits});
  const BitmapMatrix bitmap = {matrix, static_cast<const std::int64_t*>(starts.data)};
  if (tensors.on_cpu) check_value_count(op, matrix, bitmap.starts[matrix.rows]);
  return bitmap;
}

BitmapMatrix checked_bitmap_linear(const char* op, const BitmapLinearTensors& tensors) {
  const TensorView& x = tensors.x;
  const TensorView& bits = tensors.weight.bits;
  const auto check = [&](const char* name, DType dtype) {
    tensors.weight.on_cpu ? check_beside_values(op, name, dtype, tensors.weight.values.dtype)
                          : check_bitmap_dtype(op, name, dtype);
  };
  check("input", x.dtype);
  const bool fits = x.dims > 0 && bits.dims == 2 && (x.shape[x.dims - 1] + 7) / 8 == bits.shape[1];
  if (!fits) {
    throw_value_error(op, ": input has shape ", shape_text(x.shape, x.dims), "; bits have shape ",
                      shape_text(bits.shape, bits.dims), ", of which a byte is eight columns");
  }
  const BitmapMatrix matrix = bitmap_matrix(op, tensors.weight, x.shape[x.dims - 1]);
  check_device(op, {"input", x}, {"the weight", bits});
  const TensorView& bias = tensors.bias;
  if (!bias.present) return matrix;
  check("bias", bias.dtype);
  check_linear_bias(op, bias, matrix.rows, x);
  return matrix;
}

BitmapLinearArgs bitmap_linear_args(const BitmapMatrix& matrix, const BitmapLinearTensors& tensors,
                                    Activation activation) {
  return {linear_rows(tensors.x, tensors.bias, tensors.y, activation), matrix};
}

}  // namespace strop::linear
