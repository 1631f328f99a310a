#include "cuda/sparse.h"
#include "kernels/argument_error.h"
#include "kernels/prune_mask_bits.h"
#include "kernels/sparse_bitmap_arguments.h"
#include "torch/cuda_device.h"
#include "torch/sparse_calls.h"

namespace strop {
namespace {

// A pruned weight as it lies on a GPU.
struct Bitmap {
  Tensor bits;
  Tensor values;
  Tensor starts;

  // The kernels copy values four bytes at a time.
  void align() {
    if (reinterpret_cast<std::uintptr_t>(values.data_ptr()) % 4 != 0) {
      values = copied(values);
    }
  }
  BitmapTensors views() const { return {view_of(bits), view_of(values), view_of(starts)}; }
};

// The ops where a weight is on a GPU. A call of sparse_linear waits for nothing; packing does, for
// the number of values that there are.
struct BitmapOps : SparseCalls {
  static std::int64_t last_of(const Tensor& starts, const cuda::Launch& on) {
    std::int64_t count = 0;
    const auto* const last =
        static_cast<const std::int64_t*>(starts.data_ptr()) + starts.numel() - 1;
    cuda::check(cudaMemcpyAsync(&count, last, sizeof count, cudaMemcpyDeviceToHost, on.stream),
                "reading the number of values");
    cuda::check(cudaStreamSynchronize(on.stream), "reading the number of values");
    return count;
  }

  static Tensor starts_of(const Tensor& bits, const cuda::Launch& on) {
    Tensor starts = empty_of({bits.size(0) + 1}, DType::kInt64, bits);
    cuda::sparse_starts({.bits = static_cast<const std::uint8_t*>(bits.data_ptr()),
                         .rows = bits.size(0),
                         .row_bytes = bits.size(1),
                         .starts = static_cast<std::int64_t*>(starts.data_ptr())},
                        on);
    return starts;
  }

  // Where the rows' values begin, after it is known that the bits count the values.
  static Tensor checked_starts(const Tensor& bits, const Tensor& values, std::int64_t columns) {
    check_bitmap_dtype(kSparseWeight, "values", view_of(values).dtype);
    shaped_matrix(kSparseWeight, view_of(bits), view_of(values), columns);
    const CudaDevice device(bits);
    Tensor starts = starts_of(bits, device.launch());
    const std::int64_t count = last_of(starts, device.launch());
    if (count != values.numel()) {
      throw_value_error(kSparseWeight, ": values has ", values.numel(), " elements; ", count,
                        " bits are set");
    }
    return starts;
  }

  static Tensor unpacked(Bitmap weight, std::int64_t columns, DType dtype) {
    weight.align();
    const BitmapMatrix matrix = bitmap_matrix(kSparseWeight, weight.views(), columns);
    const CudaDevice device(weight.bits);
    Tensor dense = empty_of({matrix.rows, columns}, dtype, weight.bits);
    cuda::unpack_sparse({matrix, dtype, dense.data_ptr()}, device.launch());
    return dense;
  }

  struct Call {
    Tensor x;
    Bitmap weight;
    OptionalTensor bias;
    Activation activation;
  };

  static BitmapLinearTensors views(const Call& call) {
    return {view_of(call.x), call.weight.views(), view_of(call.bias), {}};
  }

  // Whether the bits are multiplied with as they are.
  static bool few(const Call& call) {
    return rows_of(call.x) <= kMostBitmapRows &&
           widens(view_of(call.weight.values).dtype, view_of(call.x).dtype);
  }

  static void multiply(Call& call, const Tensor& y) {
    call.x = rows_of_unit_stride(call.x);
    if (call.bias) call.bias = made_contiguous(*call.bias);
    call.weight.align();
    BitmapLinearTensors tensors = views(call);
    tensors.y = view_of(y);
    const BitmapMatrix matrix = checked_bitmap_linear(kSparseLinear, tensors);
    const CudaDevice device(call.x);
    cuda::sparse_linear(bitmap_linear_args(matrix, tensors, call.activation), device.launch());
  }

  // The dense weight is torch's allocator's again when its product is on its way. It is of the
  // input's dtype, unless a value would have to be rounded.
  static Tensor by_dense(const Call& call) {
    const DType x = view_of(call.x).dtype;
    const bool same = widens(view_of(call.weight.values).dtype, x);
    const Tensor weight =
        unpacked(call.weight, call.x.size(call.x.dim() - 1), same ? x : DType::kFloat32);
    return dense(call.x, weight, call.bias, call.activation);
  }

  static Tensor made(Call call) {
    const BitmapMatrix matrix = checked_bitmap_linear(kSparseLinear, views(call));
    if (!few(call)) return by_dense(call);
    Tensor y = empty_of(result_shape(call.x, matrix.rows), view_of(call.x).dtype, call.x);
    multiply(call, y);
    return y;
  }

  static Call take_call(Stack& stack) {
    Tensor x = stack.take<Tensor>();
    Tensor bits = stack.take<Tensor>();
    Tensor values = stack.take<Tensor>();
    Tensor starts = stack.take<Tensor>();
    OptionalTensor bias = stack.take<OptionalTensor>();
    const Activation activation = activation_named(kSparseLinear, stack.take<std::string>());
    return {std::move(x),
            {std::move(bits), std::move(values), std::move(starts)},
            std::move(bias),
            activation};
  }

  // Boxed kernels: (stack, arguments, results).

  static void by_bits(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    values[0] = torch::stable::detail::from(made(take_call(stack)));
  }

  static void by_bits_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    Call call = take_call(stack);
    Tensor out = stack.take<Tensor>();
    const BitmapMatrix matrix = checked_bitmap_linear(kSparseLinear, views(call));
    const BitmapTensors weight = call.weight.views();
    check_out(out, call.x, matrix.rows,
              {view_of(call.x), weight.bits, weight.values, weight.starts, view_of(call.bias)});
    if (few(call)) return multiply(call, out);
    torch::stable::copy_(out, by_dense(call));
  }

  static void sparse_linear(StableIValue* values, std::uint64_t, std::uint64_t) {
    PlannedCall call = take_planned(values);
    const bool by_dense = call.choice == kDense && call.ways[kDense].has_value();
    const bool by_bits =
        (call.choice == kBitmap || call.choice == kUnpack) && call.starts.has_value();
    if (!by_dense && !by_bits) throw_not_prepared();
    Tensor y =
        by_dense
            ? dense(call.x, *call.ways[kDense], call.bias, call.activation)
            : made({call.x, {call.bits, call.values, *call.starts}, call.bias, call.activation});
    values[0] = torch::stable::detail::from(std::move(y));
  }

  static Tensor bits_of(const Tensor& weight, const OptionalTensor& mask, const cuda::Launch& on) {
    const TensorView from = view_of(weight);
    Tensor bits = empty_of({from.shape[0], (from.shape[1] + 7) / 8}, DType::kUInt8, weight);
    if (mask) {
      const Tensor keep = made_contiguous(*mask);
      run(PackMaskArgs{{keep.data_ptr(), bits.data_ptr(), from.shape[0], from.shape[1]}}, on);
      return bits;
    }
    cuda::sparse_bits({.dtype = from.dtype,
                       .weight = from.data,
                       .rows = from.shape[0],
                       .columns = from.shape[1],
                       .bits = static_cast<std::uint8_t*>(bits.data_ptr()),
                       .starts = nullptr,
                       .values = nullptr},
                      on);
    return bits;
  }

  static void pack(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor given = stack.take<Tensor>();
    const auto mask = stack.take<OptionalTensor>();
    check_bitmap_dtype(kPackSparse, "weight", view_of(given).dtype);
    check_pack_sparse(kPackSparse, view_of(given), view_of(mask));
    const Tensor weight = made_contiguous(given);
    const CudaDevice device(weight);
    Tensor bits = bits_of(weight, mask, device.launch());
    const Tensor starts = starts_of(bits, device.launch());
    const TensorView from = view_of(weight);
    Tensor kept = empty_of({last_of(starts, device.launch())}, from.dtype, weight);
    cuda::sparse_values({.dtype = from.dtype,
                         .weight = from.data,
                         .rows = from.shape[0],
                         .columns = from.shape[1],
                         .bits = static_cast<std::uint8_t*>(bits.data_ptr()),
                         .starts = static_cast<const std::int64_t*>(starts.data_ptr()),
                         .values = kept.data_ptr()},
                        device.launch());
    values[0] = torch::stable::detail::from(std::move(bits));
    values[1] = torch::stable::detail::from(std::move(kept));
  }

  static void unpack(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor bits = stack.take<Tensor>(), kept = stack.take<Tensor>();
    const auto columns = stack.take<std::int64_t>();
    const Tensor starts = checked_starts(bits, kept, columns);
    values[0] =
        torch::stable::detail::from(unpacked({bits, kept, starts}, columns, view_of(kept).dtype));
  }

  static void unpack_by_starts(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor bits = stack.take<Tensor>(), kept = stack.take<Tensor>();
    const Tensor starts = stack.take<Tensor>();
    const auto columns = stack.take<std::int64_t>();
    values[0] =
        torch::stable::detail::from(unpacked({bits, kept, starts}, columns, view_of(kept).dtype));
  }

  static void layout(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor bits = stack.take<Tensor>(), kept = stack.take<Tensor>();
    const auto columns = stack.take<std::int64_t>();
    const auto name = stack.take<std::string>();
    if (name != "starts") {
      throw_value_error(kSparseWeight, ": layout is '", name, "'; on a GPU there is starts alone");
    }
    values[0] = torch::stable::detail::from(checked_starts(bits, kept, columns));
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(strop, CUDA, m) {
  m.impl("sparse_linear", BitmapOps::sparse_linear);
  m.impl("_sparse_linear_bits", BitmapOps::by_bits);
  m.impl("_sparse_linear_bits.out", BitmapOps::by_bits_out);
  m.impl("_sparse_unpack", BitmapOps::unpack_by_starts);
  m.impl("pack_sparse", BitmapOps::pack);
  m.impl("unpack_sparse", BitmapOps::unpack);
  m.impl("_sparse_layout", BitmapOps::layout);
}

}  // namespace strop
