#pragma once

#include "torch/sparse_calls.h"

namespace strop {

// The ops for one kind of device; a Backend has
//   void sparse_linear(const SparseLinearArgs&)
//   std::int64_t kept_bits(const TensorView& weight, const TensorView& mask, std::uint8_t* bits)
template <class Backend>
struct SparseOps : SparseCalls {
  struct Call {
    Tensor x;
    Tensor layout;
    OptionalTensor bias;
    Activation activation;
    std::int64_t outputs = -1;  // rows of the weight, where the caller says so
  };

  static void run(const Call& call, const Tensor& y) {
    SparseLinearTensors tensors = {view_of(call.x), view_of(call.layout), view_of(call.bias),
                                   view_of(y)};
    Backend backend(call.x);
    backend.sparse_linear(sparse_linear_args(tensors, call.activation));
  }

  static void check(Call& call) {
    check_layout_header(kSparseLinear, view_of(call.layout));
    check_sparse_linear(kSparseLinear,
                        {view_of(call.x), view_of(call.layout), view_of(call.bias), {}});
    call.x = rows_of_unit_stride(call.x);
    if (call.bias) call.bias = made_contiguous(*call.bias);
  }

  static Tensor made(Call call) {
    check(call);
    const auto& header = *static_cast<const LayoutHeader*>(call.layout.data_ptr());
    if (call.outputs >= 0 && call.outputs != header.rows) {
      throw_value_error(kSparseLinear, ": the layout has ", header.rows, " rows; ", call.outputs,
                        " are expected");
    }
    Tensor y = empty_of(result_shape(call.x, header.rows), view_of(call.x).dtype, call.x);
    run(call, y);
    return y;
  }

  static Call take_call(Stack& stack) {
    Tensor x = stack.take<Tensor>();
    Tensor layout = stack.take<Tensor>();
    const auto outputs = stack.take<std::int64_t>();
    OptionalTensor bias = stack.take<OptionalTensor>();
    const Activation activation = activation_named(kSparseLinear, stack.take<std::string>());
    return {std::move(x), std::move(layout), std::move(bias), activation, outputs};
  }

  // Boxed kernels: (stack, arguments, results).

  static void by_layout(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    values[0] = torch::stable::detail::from(made(take_call(stack)));
  }

  static void by_layout_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    Call call = take_call(stack);
    const Tensor out = stack.take<Tensor>();
    check(call);
    const auto& header = *static_cast<const LayoutHeader*>(call.layout.data_ptr());
    check_out(out, call.x, header.rows,  // (call.outputs the fake went by)
              {view_of(call.x), view_of(call.layout), view_of(call.bias)});
    run(call, out);
  }

  static void sparse_linear(StableIValue* values, std::uint64_t, std::uint64_t) {
    const PlannedCall call = take_planned(values);
    const std::int64_t choice = call.choice;
    if (choice < 0 || choice > kDense || !call.ways[choice]) throw_not_prepared();
    Tensor y = choice == kDense ? dense(call.x, *call.ways[kDense], call.bias, call.activation)
                                : made({call.x, *call.ways[choice], call.bias, call.activation});
    values[0] = torch::stable::detail::from(std::move(y));
  }

  // The gradient of x: the transposed weight times that of y.
  static void transposed(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor gradient = stack.take<Tensor>();
    const Tensor quads = stack.take<Tensor>(), pairs = stack.take<Tensor>();
    const auto columns = stack.take<std::int64_t>();
    const Tensor& layout = rows_of(gradient) <= 16 ? quads : pairs;
    values[0] = torch::stable::detail::from(
        made({gradient, layout, std::nullopt, Activation::kNone, columns}));
  }

  static void pack(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor weight = stack.take<Tensor>();
    const auto mask = stack.take<OptionalTensor>();
    const TensorView from = view_of(weight), keep = view_of(mask);
    check_pack_sparse(kPackSparse, from, keep);
    Backend backend(weight);
    Tensor bits = empty_of({from.shape[0], (from.shape[1] + 7) / 8}, DType::kUInt8, weight);
    auto* const at = static_cast<std::uint8_t*>(bits.data_ptr());
    Tensor kept = empty_of({backend.kept_bits(from, keep, at)}, from.dtype, weight);
    write_values(from, at, kept.data_ptr());
    values[0] = torch::stable::detail::from(std::move(bits));
    values[1] = torch::stable::detail::from(std::move(kept));
  }

  static SparseMatrix take_matrix(const Tensor& bits, const Tensor& values, std::int64_t columns) {
    return checked_matrix(kSparseWeight, view_of(bits), view_of(values), columns);
  }

  static void unpack(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor bits = stack.take<Tensor>(), kept = stack.take<Tensor>();
    const SparseMatrix matrix = take_matrix(bits, kept, stack.take<std::int64_t>());
    Tensor dense = empty_of({matrix.rows, matrix.columns}, matrix.dtype, kept);
    write_dense(matrix, dense.data_ptr());
    values[0] = torch::stable::detail::from(std::move(dense));
  }

  static void layout(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor bits = stack.take<Tensor>(), kept = stack.take<Tensor>();
    const SparseMatrix matrix = take_matrix(bits, kept, stack.take<std::int64_t>());
    const LayoutChoice choice = layout_named(kSparseWeight, stack.take<std::string>());
    if (matrix.dtype == DType::kFloat64 && choice != LayoutChoice::kMask) {
      throw_type_error(kSparseWeight, ": values of float64 have the layout mask alone");
    }
    const std::vector<std::uint8_t> built = build_layout(matrix, choice);
    Tensor made = empty_bytes(static_cast<std::int64_t>(built.size()), bits);
    std::memcpy(made.data_ptr(), built.data(), built.size());
    values[0] = torch::stable::detail::from(std::move(made));
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("_sparse_linear", by_layout);
    m.impl("_sparse_linear.out", by_layout_out);
    m.impl("sparse_linear", sparse_linear);
    m.impl("_sparse_transposed", transposed);
    m.impl("pack_sparse", pack);
    m.impl("unpack_sparse", unpack);
    m.impl("_sparse_layout", layout);
  }
};

}  // namespace strop
