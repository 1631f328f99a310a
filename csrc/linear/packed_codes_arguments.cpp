#include "linear/packed_codes_arguments.h"

#include "core/argument_error.h"
#include "core/check.h"
#include "linear/bitmap_arguments.h"

namespace strop::linear {

namespace {

void check_kept(const char* op, const PackedCodesTensors& tensors,
                const std::vector<std::int64_t>& shape) {
  const std::int64_t rows = shape[0], columns = shape[1];
  const Argument codes = {"codes", tensors.codes}, bits = {"bits", tensors.bits};
  check_dtype(op, codes, DType::kUInt8);
  if (tensors.codes.dims != 1) {
    throw_value_error(op, ": codes has shape ", shape_text(tensors.codes.shape, tensors.codes.dims),
                      "; beside a mask one dimension is needed");
  }
  check_contiguous(op, codes);
  check_dtype(op, bits, DType::kUInt8);
  check_shape(op, bits, {rows, (columns + 7) / 8});
  check_contiguous(op, bits);
  check_device(op, bits, codes);
  check_bitmap_columns(op, columns);
  check_starts(op, tensors.starts, rows, codes);
}

}  // namespace

PackedCodes packed_codes(const char* op, const quantize::QuantizeSpec& spec,
                         PackedCodesTensors tensors, const std::vector<std::int64_t>& shape) {
  if (shape.size() != 2) throw_value_error(op, ": shape is not that of a matrix");
  const int bits = spec.format.bits;
  if (bits == 0 || bits > 8) {
    throw_value_error(op, ": format ", spec.format.name, " has no codes of at most 8 bits");
  }
  const std::int64_t stride[] = {shape[1], 1};
  tensors.output = {.present = true,
                    .dtype = DType::kFloat32,
                    .dims = 2,
                    .device = tensors.codes.device,
                    .data = nullptr,
                    .shape = shape.data(),
                    .stride = stride};
  const std::int64_t whole[] = {shape[0], quantize::code_row_bytes(shape[1], bits)};
  const std::int64_t step[] = {whole[1], 1};
  if (tensors.bits.present) {  // the scales are those of all codes
    check_kept(op, tensors, shape);
    tensors.codes.dims = 2;
    tensors.codes.shape = whole;
    tensors.codes.stride = step;
  }
  check_dequantize(op, spec, tensors);
  PackedCodes weight = {dequantize_args(spec, tensors)};
  if (weight.wide) throw_type_error(op, ": scales have dtype float64; float32 is needed");
  if (!tensors.bits.present) return weight;
  weight.bits = static_cast<const std::uint8_t*>(tensors.bits.data);
  weight.starts = static_cast<const std::int64_t*>(tensors.starts.data);
  return weight;
}

Activations checked_activations(const char* op, const PackedCodes& weight,
                                const std::string& name) {
  const Activations activations = activations_named(op, name);
  if (activations == Activations::kExact) return activations;
  if (weight.bits != nullptr) {
    throw_value_error(op, ": activations is '", name,
                      "'; on a GPU codes beside a mask are multiplied with floats alone");
  }
  if (weight.format.grid != Grid::kInteger) {
    throw_value_error(op, ": activations is '", name, "'; format ", weight.format.name,
                      " is no integer, and is multiplied with floats alone");
  }
  if (weight.columns() > kMaxCodedColumns) {
    throw_value_error(op, ": the weight has ", weight.columns(),
                      " columns; on a GPU integers are multiplied up to ", kMaxCodedColumns);
  }
  return activations;
}

}  // namespace strop::linear
