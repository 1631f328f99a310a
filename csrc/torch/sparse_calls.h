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
// `made_of`, int64 on the CPU, has the versions of bits and values that the others were made of: a
// compiled graph holds tensors that nobody makes anew.
inline constexpr const char* kSparseLinearArguments =
    "Tensor input, Tensor bits, Tensor values, Tensor? mask, Tensor? quads, Tensor? pairs, Tensor? "
    "dense, Tensor? back_quads, Tensor? back_pairs, Tensor? starts, int[] plan, Tensor? bias, str "
    "activation, Tensor? made_of=None";

// Numbers of rows with a choice of their own end here; the last class has no end.
inline constexpr std::array<std::int64_t, 7> kRowClasses = {1, 4, 8, 16, 32, 128, 1 << 20};

// What the public op is given, and the plan's choice for so many rows, counted from 0.
struct PlannedCall {
  Tensor x;
  Tensor bits;
  Tensor values;
  OptionalTensor ways[4];  // the layouts, and dense, in the order of the choices
  OptionalTensor starts;   // for the choices after these
  OptionalTensor bias;
  Activation activation = Activation::kNone;
  std::int64_t choice = 0;
};

inline constexpr std::int64_t kDense = 3, kBitmap = 4, kUnpack = 5;

// What the ops of every kind of device share.
struct SparseCalls {
  static Tensor rows_of_unit_stride(const Tensor& tensor) {
    const TensorView view = view_of(tensor);
    const bool plain = view.dims == 2 && view.shape[1] > 1 && view.stride[1] == 1;
    return plain || is_contiguous(view) ? tensor : made_contiguous(tensor);
  }

  static std::vector<std::int64_t> result_shape(const Tensor& x, std::int64_t columns) {
    std::vector<std::int64_t> shape(x.sizes().data(), x.sizes().data() + x.dim());
    shape.back() = columns;
    return shape;
  }

  static std::int64_t rows_of(const Tensor& x) { return strop::rows_of(view_of(x)); }

  // What a result of so many columns may be written to; it overlaps none of the others.
  static void check_out(const Tensor& out, const Tensor& x, std::int64_t columns,
                        std::initializer_list<TensorView> others) {
    const TensorView view = view_of(out), input = view_of(x);
    const auto wanted = result_shape(x, columns);
    if (std::vector<std::int64_t>(view.shape, view.shape + view.dims) != wanted) {
      throw_value_error(kSparseLinear, ": out has shape ", shape_text(view.shape, view.dims), "; ",
                        shape_text(wanted.data(), input.dims), " is needed");
    }
    if (view.dtype != input.dtype) {
      throw_type_error(kSparseLinear, ": out has dtype ", dtype_name(view.dtype), "; input has ",
                       dtype_name(input.dtype));
    }
    if (view.device != input.device) {
      throw_value_error(kSparseLinear, ": out is on another device than input");
    }
    if (!is_contiguous(view)) throw_value_error(kSparseLinear, ": out is not contiguous");
    for (const TensorView& other : others) {
      if (other.present && overlap(view, other) != Overlap::kNone) {
        throw_value_error(kSparseLinear, ": out overlaps an argument");
      }
    }
  }

  static Tensor call_aten(const char* name, std::initializer_list<StableIValue> arguments) {
    std::vector<StableIValue> stack(arguments);
    TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack.data(), TORCH_ABI_VERSION));
    return torch::stable::detail::to<Tensor>(stack[0]);
  }

  static void check_dense(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
    const TensorView input = view_of(x), matrix = view_of(weight);
    if (matrix.dims != 2) {
      throw_value_error(kSparseLinear, ": dense has shape ", shape_text(matrix.shape, matrix.dims),
                        "; two dimensions are needed");
    }
    check_beside_values(kSparseLinear, "input", input.dtype, matrix.dtype);
    if (input.shape[input.dims - 1] != matrix.shape[1]) {
      throw_value_error(kSparseLinear, ": input has shape ", shape_text(input.shape, input.dims),
                        "; the weight takes ", matrix.shape[1], " columns");
    }
    if (!bias) return;
    check_beside_values(kSparseLinear, "bias", view_of(bias).dtype, matrix.dtype);
    check_linear_bias(kSparseLinear, view_of(bias), matrix.shape[0], input);
  }

  // Torch's own linear, in the dense weight's dtype; the input has a dimension.
  static Tensor dense(const Tensor& x, const Tensor& weight, OptionalTensor bias,
                      Activation activation) {
    try {
      return by_torch(x, weight, std::move(bias), activation);
    } catch (const ArgumentError&) {
      throw;
    } catch (const std::exception&) {
      // Says what torch could not, if it was memory for x in the weight's dtype, or for the result.
      const DType dtype = view_of(weight).dtype;
      if (x.scalar_type() != weight.scalar_type())
        empty_of(result_shape(x, x.size(x.dim() - 1)), dtype, x);
      empty_of(result_shape(x, weight.size(0)), dtype, x);
      throw;
    }
  }

  static Tensor by_torch(const Tensor& x, const Tensor& weight, OptionalTensor bias,
                         Activation activation) {
    using torch::stable::to, torch::stable::detail::from;
    check_dense(x, weight, bias);
    const auto dtype = weight.scalar_type();
    if (x.scalar_type() != dtype) {
      const Tensor y = by_torch(to(x, dtype), weight, std::move(bias), activation);
      return to(y, x.scalar_type());
    }
    if (bias && bias->scalar_type() != dtype) bias = to(*bias, dtype);
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

  [[noreturn]] static void throw_not_prepared() {
    throw_value_error(kSparseLinear, ": the plan wants what the weight has not prepared");
  }

  // A copy, as of a frozen graph, begins to count anew: a smaller version is no write.
  static void check_unwritten(const char* name, const Tensor& tensor, std::int64_t version) {
    std::array<StableIValue, 1> stack = {torch::stable::detail::from(tensor)};
    TORCH_ERROR_CODE_CHECK(
        torch_call_dispatcher("aten::_version", "", stack.data(), TORCH_ABI_VERSION));
    if (torch::stable::detail::to<std::int64_t>(stack[0]) > version) {
      throw_value_error(
          kSparseLinear, ": ", name,
          " was written to in place, which compiled code cannot follow; call the layer, "
          "or the op, once outside of compiled code");
    }
  }

  static PlannedCall take_planned(StableIValue* values) {
    Stack stack(values);
    PlannedCall call;
    call.x = stack.take<Tensor>();
    call.bits = stack.take<Tensor>();
    call.values = stack.take<Tensor>();
    for (OptionalTensor& way : call.ways) way = stack.take<OptionalTensor>();
    stack.take<OptionalTensor>();  // what a gradient may need
    stack.take<OptionalTensor>();
    call.starts = stack.take<OptionalTensor>();
    const auto plan = stack.take<std::vector<std::int64_t>>();
    call.bias = stack.take<OptionalTensor>();
    call.activation = activation_named(kSparseLinear, stack.take<std::string>());
    if (const auto made_of = stack.take<OptionalTensor>()) {
      const TensorView versions = view_of(*made_of);
      if (versions.dtype != DType::kInt64 || versions.numel() != 2 || !made_of->is_cpu() ||
          !is_contiguous(versions)) {
        throw_value_error(kSparseLinear, ": made_of is not two int64 numbers on the CPU");
      }
      const auto* at = static_cast<const std::int64_t*>(versions.data);
      check_unwritten("bits", call.bits, at[0]);
      check_unwritten("values", call.values, at[1]);
    }
    if (plan.size() != kRowClasses.size() || call.x.dim() == 0) {
      throw_value_error(kSparseLinear, ": the plan has ", plan.size(), " entries, input ",
                        call.x.dim(),
                        " dimensions; the plan of a SparseWeight and one or more are needed");
    }
    std::size_t number = 0;
    while (number + 1 < kRowClasses.size() && rows_of(call.x) > kRowClasses[number]) ++number;
    call.choice = plan[number] - 1;
    return call;
  }
};

}  // namespace strop
