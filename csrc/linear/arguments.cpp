#include "linear/arguments.h"

#include "core/argument_error.h"
#include "linear/bitmap_arguments.h"
#include "linear/bits.h"

namespace strop::linear {
namespace {

constexpr const char* kStored = "float32, bfloat16, float16 or float64 is needed";

void check_matrix_dims(const char* op, const char* name, const TensorView& view) {
  if (view.dims == 2) return;
  throw_value_error(op, ": ", name, " has shape ", shape_text(view.shape, view.dims),
                    "; two dimensions are needed");
}

}  // namespace

Activation activation_named(const char* op, const std::string& name) {
  if (name.empty()) return Activation::kNone;
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "silu") return Activation::kSilu;
  throw_value_error(op, ": activation is '", name,
                    "'; None, relu, gelu, gelu_tanh and silu are known");
}

LayoutChoice layout_named(const char* op, const std::string& name) {
  if (name == "mask") return LayoutChoice::kMask;
  if (name == "quads") return LayoutChoice::kQuads;
  if (name == "pairs") return LayoutChoice::kPairs;
  if (name == "panels") return LayoutChoice::kPanels;
  throw_value_error(op, ": layout is '", name, "'; mask, quads, pairs and panels are known");
}

void check_layout_of(const char* op, LayoutChoice choice, DType values) {
  const bool in_panels = values == DType::kFloat32 || values == DType::kBFloat16;
  if (choice == LayoutChoice::kPanels && !in_panels) {
    throw_type_error(op, ": values of ", dtype_name(values),
                     " have no layout panels; float32 and bfloat16 have one");
  }
  if (values != DType::kFloat64 || choice == LayoutChoice::kMask) return;
  throw_type_error(op, ": values of float64 have the layout mask alone");
}

void check_beside_values(const char* op, const char* name, DType dtype, DType values) {
  const bool wide = values == DType::kFloat64;
  if (is_floating(dtype) && (dtype == DType::kFloat64) == wide) return;
  throw_type_error(op, ": ", name, " has dtype ", dtype_name(dtype), "; beside values of ",
                   dtype_name(values), wide ? " float64" : " float32, bfloat16 or float16",
                   " is needed");
}

void check_pack_masked(const char* op, const TensorView& weight, const TensorView& mask) {
  if (weight.device > 0) check_bitmap_dtype(op, "weight", weight.dtype);
  if (!is_floating(weight.dtype)) {
    throw_type_error(op, ": weight has dtype ", dtype_name(weight.dtype), "; ", kStored);
  }
  check_matrix_dims(op, "weight", weight);
  if (!mask.present) return;
  check_dtype(op, {"mask", mask}, DType::kBool);
  if (mask.dims != 2 || mask.shape[0] != weight.shape[0] || mask.shape[1] != weight.shape[1]) {
    throw_value_error(op, ": mask has shape ", shape_text(mask.shape, mask.dims), "; weight has ",
                      shape_text(weight.shape, weight.dims));
  }
  check_device(op, {"mask", mask}, {"weight", weight});
}

MaskedMatrix shaped_matrix(const char* op, const TensorView& bits, const TensorView& values,
                           std::int64_t columns) {
  check_dtype(op, {"bits", bits}, DType::kUInt8);
  if (!is_floating(values.dtype)) {
    throw_type_error(op, ": values has dtype ", dtype_name(values.dtype), "; ", kStored);
  }
  check_matrix_dims(op, "bits", bits);
  if (values.dims != 1) {
    throw_value_error(op, ": values has shape ", shape_text(values.shape, values.dims),
                      "; one dimension is needed");
  }
  check_contiguous(op, {"bits", bits});
  check_contiguous(op, {"values", values});
  check_device(op, {"values", values}, {"bits", bits});
  const MaskedMatrix matrix = {values.dtype, bits.shape[0],
                               columns,      static_cast<const std::uint8_t*>(bits.data),
                               values.data,  values.shape[0]};
  if (columns < 0 || bits.shape[1] != matrix.row_bytes()) {
    throw_value_error(op, ": bits has shape ", shape_text(bits.shape, bits.dims), "; ", columns,
                      " columns need ", (columns + 7) / 8, " bytes a row");
  }
  return matrix;
}

MaskedMatrix checked_matrix(const char* op, const TensorView& bits, const TensorView& values,
                            std::int64_t columns) {
  const MaskedMatrix matrix = shaped_matrix(op, bits, values, columns);
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < matrix.rows; ++row) {
    const std::uint8_t* const from = matrix.bits + row * matrix.row_bytes();
    for (std::int64_t at = 0; at < matrix.row_bytes(); at += 8) {
      count += count_bits(bits_at(from, at, matrix.row_bytes()));
    }
    if (columns % 8 != 0 && from[matrix.row_bytes() - 1] >> columns % 8 != 0) {
      throw_value_error(op, ": bits of row ", row, " are set beyond its ", columns, " columns");
    }
  }
  check_value_count(op, matrix, count);
  return matrix;
}

void check_value_count(const char* op, const MaskedMatrix& matrix, std::int64_t count) {
  if (count == matrix.count) return;
  throw_value_error(op, ": values has ", matrix.count, " elements; ", count, " bits are set");
}

void check_layout_header(const char* op, const TensorView& layout) {
  if (layout.dtype != DType::kUInt8 || layout.dims != 1) {
    throw_type_error(op, ": a layout is a uint8 tensor of one dimension, as pack_weight makes it");
  }
  check_contiguous(op, {"layout", layout});
  const auto bytes = static_cast<std::size_t>(layout.shape[0]);
  const auto* const header = static_cast<const LayoutHeader*>(layout.data);
  if (bytes < sizeof *header || reinterpret_cast<std::uintptr_t>(layout.data) % 8 != 0 ||
      header->magic != kLayoutMagic || header->bytes != layout.shape[0]) {
    throw_value_error(op, ": the layout was not made by pack_weight, or not by this version");
  }
}

void check_layout(const char* op, const TensorView& layout, std::int64_t rows,
                  std::int64_t columns) {
  check_layout_header(op, layout);
  const std::string problem = layout_problem(layout.data, layout.shape[0]);
  if (!problem.empty()) throw_value_error(op, ": the layout is damaged: ", problem);
  const auto& header = *static_cast<const LayoutHeader*>(layout.data);
  if (header.rows != rows || header.columns != columns) {
    throw_value_error(op, ": the layout is of shape [", header.rows, ", ", header.columns, "]; [",
                      rows, ", ", columns, "] is needed");
  }
}

void check_linear_bias(const char* op, const TensorView& bias, std::int64_t rows,
                       const TensorView& x) {
  if (bias.dims != 1 || bias.shape[0] != rows) {
    throw_value_error(op, ": bias has shape ", shape_text(bias.shape, bias.dims), "; [", rows,
                      "] is needed");
  }
  check_device(op, {"bias", bias}, {"input", x});
}

std::int64_t rows_of(const TensorView& x) {
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < x.dims; ++d) rows *= x.shape[d];
  return rows;
}

bool has_plain_rows(const TensorView& x) {
  return (x.dims == 2 && x.shape[1] > 1 && x.stride[1] == 1) || is_contiguous(x);
}

void check_linear_out(const char* op, const TensorView& out, const TensorView& x, std::int64_t rows,
                      std::initializer_list<Argument> read) {
  const Argument given = {"out", out}, input = {"input", x};
  check_shape(op, given, shape_with_last(x, rows));
  check_dtype_like(op, given, input);
  check_device(op, given, input);
  check_contiguous(op, given);
  check_apart(op, given, input);
  for (const Argument& each : read) check_apart(op, given, each);
}

void check_dense_linear(const char* op, const TensorView& x, const TensorView& weight,
                        const TensorView& bias) {
  check_matrix_dims(op, "dense", weight);
  check_beside_values(op, "input", x.dtype, weight.dtype);
  if (x.shape[x.dims - 1] != weight.shape[1]) {
    throw_value_error(op, ": input has shape ", shape_text(x.shape, x.dims), "; the weight takes ",
                      weight.shape[1], " columns");
  }
  if (!bias.present) return;
  check_beside_values(op, "bias", bias.dtype, weight.dtype);
  check_linear_bias(op, bias, weight.shape[0], x);
}

void check_linear_inputs(const char* op, const TensorView& x, const TensorView& bias,
                         const LinearWeight& weight) {
  check_beside_values(op, "input", x.dtype, weight.values);
  if (x.dims == 0 || x.shape[x.dims - 1] != weight.columns) {
    throw_value_error(op, ": input has shape ", shape_text(x.shape, x.dims), "; the weight takes ",
                      weight.columns, " columns");
  }
  check_device(op, {"input", x}, {"the weight", weight.tensor});
  if (!bias.present) return;
  check_beside_values(op, "bias", bias.dtype, weight.values);
  check_linear_bias(op, bias, weight.rows, x);
}

void check_packed_linear(const char* op, const PackedLinearTensors& tensors) {
  const auto& header = *static_cast<const LayoutHeader*>(tensors.layout.data);
  check_linear_inputs(op, tensors.x, tensors.bias,
                      {header.rows, header.columns, header.values(), tensors.layout});
}

LinearRows linear_rows(const TensorView& x, const TensorView& bias, const TensorView& y,
                       Activation activation) {
  return {.dtype = x.dtype,
          .rows = rows_of(x),
          .x = x.data,
          .x_stride = x.dims == 2 ? x.stride[0] : x.shape[x.dims - 1],
          .y = y.data,
          .y_stride = y.shape[y.dims - 1],
          .bias = bias.data,
          .bias_dtype = bias.dtype,
          .activation = activation};
}

MaskedLinearArgs masked_linear_args(const PackedLinearTensors& tensors, Activation activation) {
  return {linear_rows(tensors.x, tensors.bias, tensors.y, activation), tensors.layout.data};
}

CodedLinearArgs coded_linear_args(const PackedLinearTensors& tensors, Activation activation) {
  return {linear_rows(tensors.x, tensors.bias, tensors.y, activation), tensors.layout.data};
}

}  // namespace strop::linear
