#pragma once

#include <torch/csrc/stable/ops.h>

#include <array>

#include "kernels/sparse_arguments.h"
#include "torch/quantize_ops.h"

namespace strop {

inline constexpr const char* kSparseLinear = "strop.sparse_linear";
inline constexpr const char* kPackSparse = "strop.pack_sparse";
inline constexpr const char* kSparseWeight = "strop.SparseWeight";

// What the public op takes of a SparseWeight. `plan` has a choice for each class of rows.
inline constexpr const char* kSparseLinearArguments =
    "Tensor input, Tensor bits, Tensor values, Tensor? mask, Tensor? quads, Tensor? pairs, Tensor? "
    "dense, Tensor? back_quads, Tensor? back_pairs, int[] plan, Tensor? bias, str activation";

// Numbers of rows with a choice of their own end here; the last class has no end.
inline constexpr std::array<std::int64_t, 7> kRowClasses = {1, 4, 8, 16, 32, 128, 1 << 20};

// The ops for one kind of device; a Backend has
//   void sparse_linear(const SparseLinearArgs&)
//   std::int64_t kept_bits(const TensorView& weight, const TensorView& mask, std::uint8_t* bits)
template <class Backend>
struct SparseOps {
  static Tensor rows_of_unit_stride(const Tensor& tensor) {
    const TensorView view = view_of(tensor);
    const bool plain = view.dims == 2 && view.shape[1] > 1 && view.stride[1] == 1;
    return plain || is_contiguous(view) ? tensor : torch::stable::contiguous(tensor);
  }

  struct Call {
    Tensor x;
    Tensor layout;
    OptionalTensor bias;
    Activation activation;
    std::int64_t outputs = -1;  // rows of the weight, where the caller says so
  };

  static std::vector<std::int64_t> result_shape(const Tensor& x, std::int64_t columns) {
    std::vector<std::int64_t> shape(x.sizes().data(), x.sizes().data() + x.dim());
    shape.back() = columns;
    return shape;
  }

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
    if (call.bias) call.bias = torch::stable::contiguous(*call.bias);
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

  static std::int64_t rows_of(const Tensor& x) {
    std::int64_t rows = 1;
    for (std::int64_t d = 0; d + 1 < x.dim(); ++d) rows *= x.size(d);
    return rows;
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
    const TensorView view = view_of(out);
    const auto wanted = result_shape(call.x, header.rows);  // (call.outputs the fake went by)
    const std::vector<std::int64_t> given(view.shape, view.shape + view.dims);
    if (given != wanted) {
      throw_value_error(kSparseLinear, ": out has shape ", shape_text(view.shape, view.dims), "; ",
                        shape_text(wanted.data(), view.dims), " is needed");
    }
    if (view.dtype != view_of(call.x).dtype) {
      throw_type_error(kSparseLinear, ": out has dtype ", dtype_name(view.dtype), "; input has ",
                       dtype_name(view_of(call.x).dtype));
    }
    if (!is_contiguous(view)) throw_value_error(kSparseLinear, ": out is not contiguous");
    for (const TensorView& other : {view_of(call.x), view_of(call.layout), view_of(call.bias)}) {
      if (other.present && overlap(view, other) != Overlap::kNone) {
        throw_value_error(kSparseLinear, ": out overlaps an argument");
      }
    }
    run(call, out);
  }

  static Tensor call_aten(const char* name, std::initializer_list<StableIValue> arguments) {
    std::vector<StableIValue> stack(arguments);
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
  }

  // Torch's own linear, in the dense weight's dtype.
  static Tensor dense(const Tensor& x, const Tensor& weight, OptionalTensor bias,
                      Activation activation) {
    using torch::stable::to, torch::stable::detail::from;
    const auto dtype = weight.scalar_type();
    if (x.scalar_type() != dtype) {
      check_beside_values(kSparseLinear, "input", view_of(x).dtype, view_of(weight).dtype);
      const Tensor y = dense(to(x, dtype), weight, std::move(bias), activation);
      return to(y, x.scalar_type());
    }
    if (bias && bias->scalar_type() != dtype) {
      check_beside_values(kSparseLinear, "bias", view_of(bias).dtype, view_of(weight).dtype);
      bias = to(*bias, dtype);
    }
    const Tensor y = call_aten("aten::linear", {from(x), from(weight), from(bias)});
    switch (activation) {
      case Activation::kRelu:
        return call_aten("aten::relu", {from(y)});
      case Activation::kGelu:
        return call_aten("aten::gelu", {from(y), from(std::string("none"))});
      case Activation::kGeluTanh:
        return call_aten("aten::gelu", {from(y), from(std::string("tanh"))});
      case Activation::kSilu:
        return call_aten("aten::silu", {from(y)});
      default:
        return y;
    }
  }

  static void sparse_linear(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor x = stack.take<Tensor>();
    stack.take<Tensor>();  // bits and values: what a gradient may need
    stack.take<Tensor>();
    OptionalTensor ways[4];  // in the order of the plan's numbers, from 1 on
    for (OptionalTensor& way : ways) way = stack.take<OptionalTensor>();
    stack.take<OptionalTensor>();
    stack.take<OptionalTensor>();
    const auto plan = stack.take<std::vector<std::int64_t>>();
    const auto bias = stack.take<OptionalTensor>();
    const Activation activation = activation_named(kSparseLinear, stack.take<std::string>());
    if (plan.size() != kRowClasses.size() || x.dim() == 0) {
      throw_value_error(kSparseLinear, ": the plan has ", plan.size(), " entries, input ", x.dim(),
                        " dimensions; the plan of a SparseWeight and one or more are needed");
    }
    const std::int64_t rows = rows_of(x);
    std::size_t number = 0;
    while (number + 1 < kRowClasses.size() && rows > kRowClasses[number]) ++number;
    const std::int64_t choice = plan[number] - 1;
    if (choice < 0 || choice > 3 || !ways[choice]) {
      throw_value_error(kSparseLinear, ": the plan wants what the weight has not prepared");
    }
    Tensor y = choice == 3 ? dense(x, *ways[3], bias, activation)
                           : made({x, *ways[choice], bias, activation});
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
