#include "linear/codes_arguments.h"

#include <algorithm>
#include <cmath>

#include "core/argument_error.h"
#include "core/check.h"

namespace strop::linear {
CodesMatrix codes_matrix(const char* op, const CodesTensors& tensors, const std::string& format,
                         const std::string& activations, std::int64_t group) {
  CodesMatrix matrix = {};
  matrix.format = find_number_format(format);
  if (matrix.format == nullptr) throw_value_error(op, ": ", unknown_format(format));
  if (matrix.format->bits == 0 || matrix.format->bits > 8) {
    throw_value_error(op, ": format ", format, " has no codes of at most 8 bits");
  }
  matrix.activations = activations_named(op, activations);
  const bool exact = matrix.activations == Activations::kExact;
  if (!exact && matrix.format->grid != Grid::kInteger) {
    throw_value_error(op, ": activations is '", activations, "'; format ", format,
                      " is no integer, and is multiplied with floats alone");
  }
  const Argument codes = {"codes", tensors.codes}, scale = {"scale", tensors.scale};
  check_dtype(op, codes, DType::kUInt8);
  if (tensors.codes.dims != 2) throw_value_error(op, ": codes needs two dimensions");
  check_contiguous(op, codes);
  matrix.rows = tensors.codes.shape[0];
  matrix.columns = tensors.codes.shape[1];
  if (group < 1)
    throw_value_error(op, ": block_size has ", group, " columns; 1 or more are needed");
  matrix.group = group;
  const std::int64_t columns = std::max<std::int64_t>(matrix.columns, 1);
  const std::vector<std::int64_t> grid = {matrix.rows, (columns - 1) / group + 1};
  const auto check_numbers = [&](const Argument& numbers) {
    check_dtype(op, numbers, DType::kFloat32);
    check_shape(op, numbers, grid);
    check_contiguous(op, numbers);
    check_device(op, numbers, codes);
  };
  check_numbers(scale);
  if (tensors.bits.present) {
    const Argument bits = {"bits", tensors.bits};
    check_dtype(op, bits, DType::kUInt8);
    check_shape(op, bits, {matrix.rows, (matrix.columns + 7) / 8});
    check_contiguous(op, bits);
    check_device(op, bits, codes);
    matrix.bits = static_cast<const std::uint8_t*>(tensors.bits.data);
  }
  matrix.codes = static_cast<const std::uint8_t*>(tensors.codes.data);
  matrix.scales = static_cast<const float*>(tensors.scale.data);
  if (!tensors.zero_point.present) return matrix;
  check_numbers({"zero_point", tensors.zero_point});
  matrix.zeros = static_cast<const float*>(tensors.zero_point.data);
  const auto is_code = [&](float zero) {
    return zero == std::floor(zero) && zero >= static_cast<float>(matrix.format->min) &&
           zero <= static_cast<float>(matrix.format->max);
  };
  if (!exact && !std::all_of(matrix.zeros, matrix.zeros + grid[0] * grid[1], is_code)) {
    throw_value_error(op, ": zero_point has numbers that no code of ", format,
                      " stands for, which ", activations, " activations need");
  }
  return matrix;
}

}  // namespace strop::linear
