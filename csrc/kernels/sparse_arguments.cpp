#include "kernels/sparse_arguments.h"

#include "kernels/argument_error.h"
#include "kernels/prune_mask_bits.h"
#include "kernels/sparse_bits.h"

namespace strop {
namespace {

constexpr const char* kStored = "float32, bfloat16, float16 or float64 is needed";

void check_matrix_dims(const char* op, const char* name, const TensorView& view) {
  if (view.dims == 2) return;
  throw_value_error(op, ": ", name, " has shape ", shape_text(view.shape, view.dims),
                    "; two dimensions are needed");
}

void check_contiguous(const char* op, const char* name, const TensorView& view) {
  if (!is_contiguous(view)) throw_value_error(op, ": ", name, " is not contiguous");
}

template <class T>
const T* row_of(const TensorView& view, std::int64_t row) {
  return static_cast<const T*>(view.data) + row * view.stride[0];
}

std::int64_t write_dense_mask(const TensorView& mask, std::uint8_t* bits) {
  const std::int64_t columns = mask.shape[1], row_bytes = (columns + 7) / 8;
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < mask.shape[0]; ++row, bits += row_bytes) {
    const bool* const from = row_of<bool>(mask, row);
    for (std::int64_t byte = 0; byte < row_bytes; ++byte) {
      const std::int64_t left = columns - 8 * byte;
      std::uint64_t eight = 0;
      std::memcpy(&eight, from + 8 * byte, static_cast<std::size_t>(left < 8 ? left : 8));
      bits[byte] = packed_byte(eight);
      count += count_bits(bits[byte]);
    }
  }
  return count;
}

template <class T, class Keeps>
std::int64_t write_bits_where(const TensorView& view, std::uint8_t* bits, Keeps keeps) {
  const std::int64_t rows = view.shape[0], columns = view.shape[1], step = view.stride[1];
  const std::int64_t row_bytes = (columns + 7) / 8;
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const T* from = row_of<T>(view, row);
    std::uint8_t* const to = bits + row * row_bytes;
    for (std::int64_t byte = 0; byte < row_bytes; ++byte) {
      const std::int64_t left = columns - 8 * byte;
      unsigned value = 0;
      for (int bit = 0; bit < (left < 8 ? static_cast<int>(left) : 8); ++bit, from += step) {
        value |= static_cast<unsigned>(keeps(*from)) << bit;
      }
      to[byte] = static_cast<std::uint8_t>(value);
      count += count_bits(value);
    }
  }
  return count;
}

template <class T>
void write_values_of(const TensorView& weight, const std::uint8_t* bits, T* values) {
  const std::int64_t row_bytes = (weight.shape[1] + 7) / 8;
  for (std::int64_t row = 0; row < weight.shape[0]; ++row, bits += row_bytes) {
    const T* const from = row_of<T>(weight, row);
    for (std::int64_t at = 0; at < row_bytes; at += 8) {
      for_each_bit(bits_at(bits, at, row_bytes),
                   [&](int bit) { *values++ = from[(8 * at + bit) * weight.stride[1]]; });
    }
  }
}

template <class T>
void write_dense_of(const SparseMatrix& matrix, T* dense) {
  const auto* value = static_cast<const T*>(matrix.values);
  const std::int64_t row_bytes = matrix.row_bytes();
  const std::uint8_t* bits = matrix.bits;
  for (std::int64_t row = 0; row < matrix.rows; ++row, bits += row_bytes, dense += matrix.columns) {
    for (std::int64_t i = 0; i < matrix.columns; ++i) dense[i] = T{};
    for (std::int64_t at = 0; at < row_bytes; at += 8) {
      for_each_bit(bits_at(bits, at, row_bytes), [&](int bit) { dense[8 * at + bit] = *value++; });
    }
  }
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
  throw_value_error(op, ": layout is '", name, "'; mask, quads and pairs are known");
}

void check_beside_values(const char* op, const char* name, DType dtype, DType values) {
  const bool wide = values == DType::kFloat64;
  if (is_floating(dtype) && (dtype == DType::kFloat64) == wide) return;
  throw_type_error(op, ": ", name, " has dtype ", dtype_name(dtype), "; beside values of ",
                   dtype_name(values), wide ? " float64" : " float32, bfloat16 or float16",
                   " is needed");
}

void check_pack_sparse(const char* op, const TensorView& weight, const TensorView& mask) {
  if (!is_floating(weight.dtype)) {
    throw_type_error(op, ": weight has dtype ", dtype_name(weight.dtype), "; ", kStored);
  }
  check_matrix_dims(op, "weight", weight);
  if (!mask.present) return;
  if (mask.dtype != DType::kBool) {
    throw_type_error(op, ": mask has dtype ", dtype_name(mask.dtype), "; bool is needed");
  }
  if (mask.dims != 2 || mask.shape[0] != weight.shape[0] || mask.shape[1] != weight.shape[1]) {
    throw_value_error(op, ": mask has shape ", shape_text(mask.shape, mask.dims), "; weight has ",
                      shape_text(weight.shape, weight.dims));
  }
  if (mask.device != weight.device) {
    throw_value_error(op, ": mask is on another device than weight");
  }
}

SparseMatrix shaped_matrix(const char* op, const TensorView& bits, const TensorView& values,
                           std::int64_t columns) {
  if (bits.dtype != DType::kUInt8) {
    throw_type_error(op, ": bits has dtype ", dtype_name(bits.dtype), "; uint8 is needed");
  }
  if (!is_floating(values.dtype)) {
    throw_type_error(op, ": values has dtype ", dtype_name(values.dtype), "; ", kStored);
  }
  check_matrix_dims(op, "bits", bits);
  if (values.dims != 1) {
    throw_value_error(op, ": values has shape ", shape_text(values.shape, values.dims),
                      "; one dimension is needed");
  }
  check_contiguous(op, "bits", bits);
  check_contiguous(op, "values", values);
  if (bits.device != values.device) {
    throw_value_error(op, ": values is on another device than bits");
  }
  const SparseMatrix matrix = {values.dtype, bits.shape[0],
                               columns,      static_cast<const std::uint8_t*>(bits.data),
                               values.data,  values.shape[0]};
  if (columns < 0 || bits.shape[1] != matrix.row_bytes()) {
    throw_value_error(op, ": bits has shape ", shape_text(bits.shape, bits.dims), "; ", columns,
                      " columns need ", (columns + 7) / 8, " bytes a row");
  }
  return matrix;
}

SparseMatrix checked_matrix(const char* op, const TensorView& bits, const TensorView& values,
                            std::int64_t columns) {
  const SparseMatrix matrix = shaped_matrix(op, bits, values, columns);
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
  if (count != matrix.count) {
    throw_value_error(op, ": values has ", matrix.count, " elements; ", count, " bits are set");
  }
  return matrix;
}

void check_layout_header(const char* op, const TensorView& layout) {
  if (layout.dtype != DType::kUInt8 || layout.dims != 1) {
    throw_type_error(op, ": a layout is a uint8 tensor of one dimension, as pack_sparse makes it");
  }
  check_contiguous(op, "layout", layout);
  const auto bytes = static_cast<std::size_t>(layout.shape[0]);
  const auto* const header = static_cast<const LayoutHeader*>(layout.data);
  if (bytes < sizeof *header || reinterpret_cast<std::uintptr_t>(layout.data) % 8 != 0 ||
      header->magic != kLayoutMagic || header->bytes != layout.shape[0]) {
    throw_value_error(op, ": the layout was not made by pack_sparse, or not by this version");
  }
}

void check_sparse_layout(const char* op, const TensorView& layout, std::int64_t rows,
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
  if (bias.device != x.device) throw_value_error(op, ": bias is on another device than input");
}

std::int64_t rows_of(const TensorView& x) {
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < x.dims; ++d) rows *= x.shape[d];
  return rows;
}

void check_sparse_linear(const char* op, const SparseLinearTensors& tensors) {
  const TensorView& x = tensors.x;
  const auto& header = *static_cast<const LayoutHeader*>(tensors.layout.data);
  check_beside_values(op, "input", x.dtype, header.values());
  if (x.dims == 0 || x.shape[x.dims - 1] != header.columns) {
    throw_value_error(op, ": input has shape ", shape_text(x.shape, x.dims), "; the weight takes ",
                      header.columns, " columns");
  }
  if (x.device != tensors.layout.device) {
    throw_value_error(op, ": input is on another device than the weight");
  }
  if (!tensors.bias.present) return;
  check_beside_values(op, "bias", tensors.bias.dtype, header.values());
  check_linear_bias(op, tensors.bias, header.rows, x);
}

SparseLinearArgs sparse_linear_args(const SparseLinearTensors& tensors, Activation activation) {
  const TensorView& x = tensors.x;
  const auto& header = *static_cast<const LayoutHeader*>(tensors.layout.data);
  return {.layout = tensors.layout.data,
          .dtype = x.dtype,
          .rows = rows_of(x),
          .x = x.data,
          .x_stride = x.dims == 2 ? x.stride[0] : header.columns,
          .y = tensors.y.data,
          .y_stride = header.rows,
          .bias = tensors.bias.data,
          .bias_dtype = tensors.bias.dtype,
          .activation = activation};
}

std::int64_t write_bits(const TensorView& weight, const TensorView& mask, std::uint8_t* bits) {
  if (mask.present && mask.stride[1] == 1) return write_dense_mask(mask, bits);
  if (mask.present) return write_bits_where<bool>(mask, bits, [](bool keep) { return keep; });
  std::int64_t count = 0;
  by_dtype(weight.dtype, [&]<class T>() {
    count = write_bits_where<T>(weight, bits, [](T w) { return to_float(w) != 0; });
  });
  return count;
}

void write_values(const TensorView& weight, const std::uint8_t* bits, void* values) {
  by_dtype(weight.dtype,
           [&]<class T>() { write_values_of(weight, bits, static_cast<T*>(values)); });
}

void write_dense(const SparseMatrix& matrix, void* dense) {
  by_dtype(matrix.dtype, [&]<class T>() { write_dense_of(matrix, static_cast<T*>(dense)); });
}

}  // namespace strop
