#pragma once

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "core/argument_error.h"
#include "core/kernel_sets.h"
#include "linear/arguments.h"
#include "linear/bitmap.h"
#include "linear/codes_arguments.h"
#include "prune/pack_mask.h"

namespace strop::linear {

// The ops of pruned linear layers, as functions of a Call: see core/torch/call.h. Products here go
// by layouts, which a CPU reads; linear/bitmap_ops.h and linear/packed_codes_ops.h have a GPU's.

inline constexpr const char* kPackedLinear = "strop.packed_linear";
inline constexpr const char* kPackWeight = "strop.pack_weight";
inline constexpr const char* kPackedWeight = "strop.PackedWeight";

// What is multiplied with a weight, and what follows.
template <class Call>
struct LinearInputs {
  typename Call::Tensor x;
  std::optional<typename Call::Tensor> bias = {};
  Activation activation = Activation::kNone;
  Isa isa = Isa::kActive;

  // Leaves rows of unit stride.
  void make_rows(Call& call) {
    if (!has_plain_rows(view_of(x))) x = call.contiguous("input", x);
    if (bias) bias = call.contiguous("bias", *bias);
  }
};

// The last arguments of every product but the public one. Of a mask, kernels of a set that the one
// in force extends may be named.
template <class Call>
LinearInputs<Call> take_linear_inputs(Call& call, typename Call::Tensor x, bool names_isa = false) {
  auto bias = call.optional_tensor("bias");
  const auto activation = call.template option<std::string>("activation", "");
  const auto isa = names_isa ? call.template option<std::string>("isa", "") : std::string();
  return {std::move(x), std::move(bias), activation_named(kPackedLinear, activation),
          isa.empty() ? Isa::kActive : isa_within_active(isa)};
}

// To `out` where there is one. `outputs`: rows of the weight, where the caller says so.
template <class Call>
typename Call::Tensor multiply_by_layout(Call& call, LinearInputs<Call> in,
                                         const typename Call::Tensor& layout,
                                         std::int64_t outputs = -1,
                                         std::optional<typename Call::Tensor> out = {}) {
  const TensorView packed = view_of(layout);
  check_layout_header(kPackedLinear, packed);
  const auto& header = *static_cast<const LayoutHeader*>(packed.data);
  const bool coded = header.kind == LayoutKind::kCodes;
  check_packed_linear(kPackedLinear,
                      {.x = view_of(in.x), .layout = packed, .bias = view_of(in.bias), .y = {}});
  const std::int64_t rows = header.rows;
  if (outputs >= 0 && outputs != rows) {
    throw_value_error(kPackedLinear, ": the layout has ", rows, " rows; ", outputs,
                      " are expected");
  }
  in.make_rows(call);
  PackedLinearTensors tensors = {
      .x = view_of(in.x), .layout = packed, .bias = view_of(in.bias), .y = view_of(out)};
  if (out) {
    check_linear_out(kPackedLinear, tensors.y, tensors.x, rows,
                     {{"the weight", packed}, {"bias", tensors.bias}});
  } else {
    out.emplace(call.empty(shape_with_last(tensors.x, rows), tensors.x.dtype, in.x));
    tensors.y = view_of(out);
  }
  if (coded) {
    CodedLinearArgs args = coded_linear_args(tensors, in.activation);
    args.isa = in.isa;
    call.run(in.x, args);
  } else {
    MaskedLinearArgs args = masked_linear_args(tensors, in.activation);
    args.isa = in.isa;
    call.run(in.x, args);
  }
  return std::move(*out);
}

template <class Call>
void packed_linear_by_layout(Call& call) {
  auto x = call.tensor("input");
  const auto layout = call.tensor("layout");
  const auto outputs = call.template option<std::int64_t>("outputs", -1);
  auto in = take_linear_inputs(call, std::move(x), true);
  auto out = call.out(in.x);
  call.give(multiply_by_layout(call, std::move(in), layout, outputs, std::move(out)));
}

// The gradient of x: the transposed weight times that of y.
template <class Call>
void packed_transposed(Call& call) {
  auto gradient = call.tensor("gradient");
  const auto quads = call.tensor("quads"), pairs = call.tensor("pairs");
  const auto columns = call.template option<std::int64_t>("columns");
  const auto& layout = rows_of(view_of(gradient)) <= 16 ? quads : pairs;
  call.give(multiply_by_layout(call, {std::move(gradient)}, layout, columns));
}

// A pruned weight, and where the values of its rows begin.
template <class Call>
struct Bitmap {
  typename Call::Tensor bits;
  typename Call::Tensor values;
  typename Call::Tensor starts;
  bool on_cpu = false;  // and multiplied there
};

template <class Call>
typename Call::Tensor starts_of(Call& call, const typename Call::Tensor& bits) {
  const TensorView from = view_of(bits);
  auto starts = call.empty({from.shape[0] + 1}, DType::kInt64, bits);
  call.run(bits, BitmapStartsArgs{.bits = static_cast<const std::uint8_t*>(from.data),
                                  .rows = from.shape[0],
                                  .row_bytes = from.shape[1],
                                  .starts = static_cast<std::int64_t*>(view_of(starts).data)});
  return starts;
}

// How many values there are, after the last row.
template <class Call>
std::int64_t value_count(Call& call, const typename Call::Tensor& starts) {
  const TensorView from = view_of(starts);
  return call.read(starts, static_cast<const std::int64_t*>(from.data) + from.shape[0] - 1);
}

// Of a contiguous weight: where the mask says so, or what is not zero.
template <class Call>
typename Call::Tensor bits_of(Call& call, const typename Call::Tensor& weight,
                              const std::optional<typename Call::Tensor>& mask) {
  const TensorView from = view_of(weight);
  const std::int64_t rows = from.shape[0], columns = from.shape[1];
  auto bits = call.empty({rows, (columns + 7) / 8}, DType::kUInt8, weight);
  auto* const to = static_cast<std::uint8_t*>(view_of(bits).data);
  if (mask) {
    const auto keep = call.contiguous("mask", *mask);
    call.run(weight, prune::PackMaskArgs{{view_of(keep).data, to, rows, columns}});
  } else {
    call.run(weight, BitmapBitsArgs{from.dtype, from.data, rows, columns, to});
  }
  return bits;
}

template <class Call>
Bitmap<Call> packed(Call& call, const typename Call::Tensor& weight,
                    const std::optional<typename Call::Tensor>& mask) {
  check_pack_masked(kPackWeight, view_of(weight), view_of(mask));
  const auto dense = call.contiguous("weight", weight);
  auto bits = bits_of(call, dense, mask);
  auto starts = starts_of(call, bits);
  const TensorView from = view_of(dense);
  auto values = call.empty({value_count(call, starts)}, from.dtype, weight);
  call.run(weight,
           BitmapValuesArgs{.dtype = from.dtype,
                            .weight = from.data,
                            .rows = from.shape[0],
                            .columns = from.shape[1],
                            .bits = static_cast<const std::uint8_t*>(view_of(bits).data),
                            .starts = static_cast<const std::int64_t*>(view_of(starts).data),
                            .values = view_of(values).data});
  return {std::move(bits), std::move(values), std::move(starts)};
}

template <class Call>
void pack_masked(Call& call) {
  const auto weight = call.tensor("weight");
  const auto mask = call.optional_tensor("mask");
  Bitmap<Call> made = packed(call, weight, mask);
  call.give(std::move(made.bits));
  call.give(std::move(made.values));
}

template <class Call>
void unpack_masked(Call& call) {
  const auto bits = call.tensor("bits"), values = call.tensor("values");
  const auto columns = call.template option<std::int64_t>("columns");
  const MaskedMatrix matrix =
      checked_matrix(kPackedWeight, view_of(bits), view_of(values), columns);
  auto dense = call.empty({matrix.rows, columns}, matrix.dtype, values);
  call.run(values, BitmapUnpackArgs{{matrix}, matrix.dtype, view_of(dense).data});
  call.give(std::move(dense));
}

template <class Call>
typename Call::Tensor tensor_of(Call& call, const std::vector<std::uint8_t>& layout,
                                const typename Call::Tensor& beside) {
  auto made = call.empty({static_cast<std::int64_t>(layout.size())}, DType::kUInt8, beside);
  std::memcpy(view_of(made).data, layout.data(), layout.size());
  return made;
}

// A layout of codes, a byte each, whose scales are float32.
template <class Call>
void codes_layout(Call& call) {
  const auto codes = call.tensor("codes"), scale = call.tensor("scale");
  const auto zero_point = call.optional_tensor("zero_point");
  const auto group = call.template option<std::int64_t>("group");
  const auto format = call.template option<std::string>("format");
  const auto activations = call.template option<std::string>("activations", "");
  const auto bits = call.optional_tensor("bits");
  const CodesTensors tensors = {view_of(codes), view_of(scale), view_of(zero_point), view_of(bits)};
  const CodesMatrix matrix = codes_matrix(kPackWeight, tensors, format, activations, group);
  call.give(tensor_of(call, build_codes_layout(matrix), codes));
}

template <class Call>
void masked_layout(Call& call) {
  const auto bits = call.tensor("bits"), values = call.tensor("values");
  const auto columns = call.template option<std::int64_t>("columns");
  const auto name = call.template option<std::string>("layout");
  const MaskedMatrix matrix =
      checked_matrix(kPackedWeight, view_of(bits), view_of(values), columns);
  if (name == "starts") return call.give(starts_of(call, bits));
  const LayoutChoice choice = layout_named(kPackedWeight, name);
  check_layout_of(kPackedWeight, choice, matrix.dtype);
  call.give(tensor_of(call, build_layout(matrix, choice), bits));
}

}  // namespace strop::linear
