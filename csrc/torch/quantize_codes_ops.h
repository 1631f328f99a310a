#pragma once

#include <torch/csrc/stable/ops.h>

#include "kernels/quantize_codes_arguments.h"
#include "torch/quantize_ops.h"

namespace strop {

// quantize and dequantize for one kind of device. A Backend has, beside what QuantizeOps asks for:
//   void quantize(const QuantizeArgs&)
//   void dequantize(const DequantizeArgs&)
//   void pack(const BitRows&), void unpack(const BitRows&)

inline constexpr const char* kKeptArguments =
    "Tensor codes, Tensor scale, Tensor? zero_point, Tensor? tensor_scale, str format, "
    "int[] block_size, ";

// What a quantize makes; tensors of no elements where nothing is chosen.
struct Made {
  Tensor codes;
  Tensor scale;
  Tensor zero_point;
  Tensor tensor_scale;
};

template <class Backend>
struct QuantizeCodeOps {
  static Made make(const QuantizeCall& call, const FakeQuantizeTensors& forward, bool codes) {
    const QuantizeSpec& spec = call.spec();
    const DType dtype = forward.input.dtype;
    const bool chosen = !forward.scale.present;
    const bool two_levels = chosen && spec.format.scales == ScaleKind::kTwoLevels;
    const std::vector<std::int64_t> grid = blocks_shape(spec, forward.input), none = {0};
    const std::vector<std::int64_t> one = {};
    return {.codes = empty_of(codes ? codes_shape(spec, forward.input) : none, codes_dtype(spec),
                              call.input),
            .scale = empty_of(chosen ? grid : none, chosen_scale_dtype(spec, dtype), call.input),
            .zero_point = empty_of(chosen && chooses_zero_point(spec) ? grid : none, DType::kInt32,
                                   call.input),
            .tensor_scale =
                empty_of(two_levels ? one : none,
                         dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32, call.input)};
  }

  static Made run(const QuantizeCall& call, bool codes) {
    const FakeQuantizeTensors forward = {.input = view_of(call.input),
                                         .scale = view_of(call.scale),
                                         .zero_point = view_of(call.zero_point),
                                         .output = {}};
    check_quantize(call.op, call.spec(), forward, call.seed.has_value() || !codes);
    if (call.seed_tensor && call.seed_tensor->device() != call.input.device()) {
      throw_value_error(call.op, ": seed is on another device than input");
    }
    Backend backend(call.input);
    Made made = make(call, forward, codes);
    const auto wanted = [](const Tensor& tensor, bool present) {
      return present ? view_of(tensor) : TensorView{};
    };
    const bool chosen = !forward.scale.present;
    const QuantizeTensors tensors = {
        .forward = forward,
        .codes = wanted(made.codes, codes),
        .chosen_scale = wanted(made.scale, chosen),
        .chosen_zero_point = wanted(made.zero_point, chosen && chooses_zero_point(call.spec())),
        .chosen_tensor_scale = wanted(made.tensor_scale, made.tensor_scale.numel() > 0)};
    QuantizeArgs args = quantize_args(call.spec(), tensors, call.seed.value_or(0));
    args.problem.seed_at = QuantizeOps<Backend>::seed_at(call);
    backend.quantize(args);
    return made;
  }

  // Boxed kernels: (stack, arguments, results).

  static void quantize(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    Made made = run(take_spelled_forward("strop.quantize", stack), true);
    values[0] = torch::stable::detail::from(std::move(made.codes));
    values[1] = torch::stable::detail::from(std::move(made.scale));
    values[2] = torch::stable::detail::from(std::move(made.zero_point));
    values[3] = torch::stable::detail::from(std::move(made.tensor_scale));
  }

  static void choose_scale(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    QuantizeCall call;
    call.op = "strop.choose_scale";
    call.input = stack.take<Tensor>();
    QuantizeRequest request;
    request.format = stack.take<std::string>();
    request.block_size = stack.take<std::vector<std::int64_t>>();
    request.whole = request.block_size.empty();
    request.symmetric = stack.take<bool>();
    request.quant_min = stack.take<std::optional<std::int64_t>>();
    request.quant_max = stack.take<std::optional<std::int64_t>>();
    request.eps = stack.take<std::optional<double>>();
    call.spelled = make_quantize_spec(call.op, request);
    Made made = run(call, false);
    values[0] = torch::stable::detail::from(std::move(made.scale));
    values[1] = torch::stable::detail::from(std::move(made.zero_point));
    values[2] = torch::stable::detail::from(std::move(made.tensor_scale));
  }

  struct Kept {
    Tensor codes;
    Tensor scale;
    OptionalTensor zero_point;
    OptionalTensor tensor_scale;
    QuantizeSpec spec;
  };

  static constexpr const char* kDequantize = "strop.dequantize";

  static Kept take_kept(Stack& stack) {
    Kept kept;
    kept.codes = stack.take<Tensor>();
    kept.scale = stack.take<Tensor>();
    kept.zero_point = stack.take<OptionalTensor>();
    kept.tensor_scale = stack.take<OptionalTensor>();
    QuantizeRequest request;
    request.format = stack.take<std::string>();
    request.block_size = stack.take<std::vector<std::int64_t>>();
    request.whole = request.block_size.empty();
    kept.spec = make_quantize_spec(kDequantize, request);
    return kept;
  }

  static void restore(const Kept& kept, const TensorView& out) {
    const DequantizeTensors tensors = {.codes = view_of(kept.codes),
                                       .scale = view_of(kept.scale),
                                       .zero_point = view_of(kept.zero_point),
                                       .tensor_scale = view_of(kept.tensor_scale),
                                       .output = out};
    check_dequantize(kDequantize, kept.spec, tensors);
    Backend backend(kept.codes);
    backend.dequantize(dequantize_args(kept.spec, tensors));
  }

  static void dequantize(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Kept kept = take_kept(stack);
    const auto shape = stack.take<std::vector<std::int64_t>>();
    const DType dtype = dtype_of_scalar(stack.take<torch::headeronly::ScalarType>());
    check_dequantize_dtype(kDequantize, dtype);
    Tensor out = empty_of(shape, dtype, kept.codes);
    restore(kept, view_of(out));
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void dequantize_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Kept kept = take_kept(stack);
    const Tensor out = stack.take<Tensor>();
    restore(kept, view_of(out));
  }

  static void pack_bits(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor codes = stack.take<Tensor>();
    const std::int64_t bits = stack.take<std::int64_t>();
    check_pack("strop.pack_bits", view_of(codes), bits);
    const Tensor dense = made_contiguous(codes);
    const TensorView view = view_of(dense);
    std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
    const BitRows rows = bit_rows(view.shape, view.dims, bits);
    shape.back() = rows.bytes();
    Tensor packed = empty_of(shape, DType::kUInt8, codes);
    Backend backend(codes);
    if (rows.rows * rows.count > 0) backend.pack(with_data(rows, view.data, packed.data_ptr()));
    values[0] = torch::stable::detail::from(std::move(packed));
  }

  static void unpack_into(const Tensor& packed, std::int64_t bits, const Tensor& out) {
    const Tensor dense = made_contiguous(packed);
    const TensorView from = view_of(dense), view = view_of(out);
    const BitRows rows = bit_rows(view.shape, view.dims, bits);
    Backend backend(packed);
    if (rows.rows * rows.count > 0) {
      backend.unpack(with_data(rows, from.data, view.data));
    }
  }

  static void unpack_bits(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor packed = stack.take<Tensor>();
    const std::int64_t bits = stack.take<std::int64_t>();
    const std::int64_t count = stack.take<std::int64_t>();
    const TensorView view = view_of(packed);
    check_unpack("strop.unpack_bits", view, bits, count);
    std::vector<std::int64_t> shape(view.shape, view.shape + view.dims);
    shape.back() = count;
    Tensor codes = empty_of(shape, DType::kUInt8, packed);
    unpack_into(packed, bits, codes);
    values[0] = torch::stable::detail::from(std::move(codes));
  }

  static void unpack_bits_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor packed = stack.take<Tensor>();
    const std::int64_t bits = stack.take<std::int64_t>();
    const std::int64_t count = stack.take<std::int64_t>();
    const Tensor out = stack.take<Tensor>();
    check_unpack("strop.unpack_bits", view_of(packed), bits, count);
    check_unpack_out("strop.unpack_bits", view_of(packed), count, view_of(out));
    unpack_into(packed, bits, out);
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("quantize", quantize);
    m.impl("choose_scale", choose_scale);
    m.impl("dequantize", dequantize);
    m.impl("dequantize.out", dequantize_out);
    m.impl("pack_bits", pack_bits);
    m.impl("unpack_bits", unpack_bits);
    m.impl("unpack_bits.out", unpack_bits_out);
  }
};

}  // namespace strop
