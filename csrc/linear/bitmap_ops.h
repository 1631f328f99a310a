#pragma once

#include "linear/bitmap_arguments.h"
#include "linear/ops.h"

namespace strop::linear {

// The ops of pruned linear layers by bits and values as they are: a GPU's, and one way of a CPU's.
// On a GPU products wait for nothing; what counts values does, for their number.

template <class Call>
BitmapTensors views_of(const Bitmap<Call>& weight) {
  return {view_of(weight.bits), view_of(weight.values), view_of(weight.starts), weight.on_cpu};
}

// A GPU's kernels copy values four bytes at a time.
template <class Call>
void align_values(Call& call, Bitmap<Call>& weight) {
  weight.values = call.aligned("values", weight.values, 4);
}

// Where the rows' values begin, after it is known that the bits count the values.
template <class Call>
typename Call::Tensor checked_starts(Call& call, const typename Call::Tensor& bits,
                                     const typename Call::Tensor& values, std::int64_t columns) {
  check_bitmap_dtype(kPackedWeight, "values", view_of(values).dtype);
  const MaskedMatrix matrix = shaped_matrix(kPackedWeight, view_of(bits), view_of(values), columns);
  auto starts = starts_of(call, bits);
  check_value_count(kPackedWeight, matrix, value_count(call, starts));
  return starts;
}

// The dense weight, in a dtype that the values widen to.
template <class Call>
typename Call::Tensor unpacked(Call& call, Bitmap<Call> weight, std::int64_t columns, DType dtype) {
  align_values(call, weight);
  const BitmapMatrix matrix = bitmap_matrix(kPackedWeight, views_of(weight), columns);
  auto dense = call.empty({matrix.rows, columns}, dtype, weight.bits);
  call.run(weight.bits, BitmapUnpackArgs{matrix, dtype, view_of(dense).data});
  return dense;
}

// What a product is given, after it is known to be right.
template <class Call>
BitmapMatrix checked_product(const LinearInputs<Call>& in, const Bitmap<Call>& weight,
                             const std::optional<typename Call::Tensor>& out) {
  const BitmapLinearTensors tensors = {view_of(in.x), views_of(weight), view_of(in.bias), {}};
  const BitmapMatrix matrix = checked_bitmap_linear(kPackedLinear, tensors);
  if (out) {
    const BitmapTensors& of = tensors.weight;
    check_linear_out(kPackedLinear, view_of(out), tensors.x, matrix.rows,
                     {{"the weight", of.bits},
                      {"the weight", of.values},
                      {"the weight", of.starts},
                      {"bias", tensors.bias}});
  }
  return matrix;
}

// On a GPU for up to kMaxBitmapRows rows of an x that values widen to; to `out` where there is one.
template <class Call>
typename Call::Tensor multiply_by_bitmap(Call& call, LinearInputs<Call> in, Bitmap<Call> weight,
                                         std::optional<typename Call::Tensor> out = {}) {
  BitmapMatrix matrix = checked_product(in, weight, out);
  in.make_rows(call);
  align_values(call, weight);
  matrix.values = view_of(weight.values).data;
  BitmapLinearTensors tensors = {view_of(in.x), views_of(weight), view_of(in.bias), {}};
  if (!out) out.emplace(call.empty(shape_with_last(tensors.x, matrix.rows), tensors.x.dtype, in.x));
  tensors.y = view_of(out);
  BitmapLinearArgs args = bitmap_linear_args(matrix, tensors, in.activation);
  args.isa = in.isa;
  call.run(in.x, args);
  return std::move(*out);
}

template <class Call>
void unpack_bitmap(Call& call) {
  const auto bits = call.tensor("bits"), values = call.tensor("values");
  const auto columns = call.template option<std::int64_t>("columns");
  const auto starts = checked_starts(call, bits, values, columns);
  call.give(unpacked<Call>(call, {bits, values, starts}, columns, view_of(values).dtype));
}

template <class Call>
void unpack_by_starts(Call& call) {
  const auto bits = call.tensor("bits"), values = call.tensor("values");
  const auto starts = call.tensor("starts");
  const auto columns = call.template option<std::int64_t>("columns");
  call.give(unpacked<Call>(call, {bits, values, starts}, columns, view_of(values).dtype));
}

template <class Call>
void masked_starts(Call& call) {
  const auto bits = call.tensor("bits"), values = call.tensor("values");
  const auto columns = call.template option<std::int64_t>("columns");
  const auto name = call.template option<std::string>("layout");
  if (name != "starts") {
    throw_value_error(kPackedWeight, ": layout is '", name, "'; on a GPU there is starts alone");
  }
  call.give(checked_starts(call, bits, values, columns));
}

}  // namespace strop::linear
