#include "linear/packed_codes_arguments.h"

#include "core/argument_error.h"

namespace strop::linear {

PackedCodes packed_codes(const char* op, const quantize::QuantizeSpec& spec,
                         quantize::DequantizeTensors tensors,
                         const std::vector<std::int64_t>& shape) {
  if (shape.size() != 2) throw_value_error(op, ": shape is not that of a matrix");
  if (spec.format.bits == 0 || spec.format.bits > 8) {
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
  check_dequantize(op, spec, tensors);
  const PackedCodes weight = {dequantize_args(spec, tensors)};
  if (weight.wide) throw_type_error(op, ": scales have dtype float64; float32 is needed");
  return weight;
}

Activations checked_activations(const char* op, const PackedCodes& weight,
                                const std::string& name) {
  const Activations activations = activations_named(op, name);
  if (activations == Activations::kExact) return activations;
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
