// The kernels of pruned weights over numpy arrays.

#include "cuda/sparse.h"

#include <pybind11/stl.h>

#include "cuda_host/device_arrays.h"
#include "cuda_host/module.h"
#include "kernels/argument_error.h"
#include "kernels/prune_mask_bits.h"
#include "kernels/sparse_arguments.h"
#include "kernels/sparse_bitmap_arguments.h"
#include "python/quantize_codes_binding.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop::cuda_host {
namespace {

constexpr const char* kOp = "strop.sparse_linear";
constexpr const char* kPack = "strop.pack_sparse";

std::size_t item(DType dtype) { return static_cast<std::size_t>(dtype_size(dtype)); }

void add(DeviceArrays& arrays, const BitmapMatrix& matrix) {
  arrays.add({"bits", matrix.bits, 1, {{matrix.rows * matrix.row_bytes(), 1}}, Use::kInput});
  arrays.add({"values", matrix.values, item(matrix.dtype), {{matrix.count, 1}}, Use::kInput});
  arrays.add({"starts", matrix.starts, 8, {{matrix.rows + 1, 1}}, Use::kInput});
}

void move(const DeviceArrays& arrays, BitmapMatrix& matrix) {
  matrix.bits = arrays.at(matrix.bits);
  matrix.values = arrays.at(matrix.values);
  matrix.starts = arrays.at(matrix.starts);
}

py::object bits_of(const TensorView& weight, const TensorView& mask) {
  const Turn turn;
  py::object bits = make_array({weight.shape[0], (weight.shape[1] + 7) / 8}, DType::kUInt8);
  const ArrayView written(kPack, "bits", bits, true);
  const TensorView to = written.view();
  if (mask.present) {
    const PackMaskArgs rows{{mask.data, to.data, weight.shape[0], weight.shape[1]}};
    run_byte_rows(rows, rows.count, rows.bytes(), turn.launch());
    return bits;
  }
  BitmapPackArgs args{.dtype = weight.dtype,
                      .weight = weight.data,
                      .rows = weight.shape[0],
                      .columns = weight.shape[1],
                      .bits = static_cast<std::uint8_t*>(to.data),
                      .starts = nullptr,
                      .values = nullptr};
  DeviceArrays arrays;
  arrays.add({"weight", args.weight, item(args.dtype), {{weight.numel(), 1}}, Use::kInput});
  arrays.add({"bits", args.bits, 1, {{to.numel(), 1}}, Use::kOutput});
  arrays.upload();
  args.weight = arrays.at(args.weight);
  args.bits = arrays.at(args.bits);
  cuda::sparse_bits(args, turn.launch());
  arrays.download();
  return bits;
}

py::object starts_of(const TensorView& bits) {
  const Turn turn;
  py::object starts = make_array({bits.shape[0] + 1}, DType::kInt64);
  const ArrayView written(kPack, "starts", starts, true);
  const TensorView to = written.view();
  BitmapStartsArgs args{.bits = static_cast<const std::uint8_t*>(bits.data),
                        .rows = bits.shape[0],
                        .row_bytes = bits.shape[1],
                        .starts = static_cast<std::int64_t*>(to.data)};
  DeviceArrays arrays;
  arrays.add({"bits", args.bits, 1, {{bits.numel(), 1}}, Use::kInput});
  arrays.add({"starts", args.starts, 8, {{to.numel(), 1}}, Use::kOutput});
  arrays.upload();
  args.bits = arrays.at(args.bits);
  args.starts = arrays.at(args.starts);
  cuda::sparse_starts(args, turn.launch());
  arrays.download();
  return starts;
}

py::object values_of(const TensorView& weight, const TensorView& bits, const TensorView& starts) {
  const Turn turn;
  const std::int64_t count = static_cast<const std::int64_t*>(starts.data)[weight.shape[0]];
  py::object values = make_array({count}, weight.dtype);
  BitmapPackArgs args{.dtype = weight.dtype,
                      .weight = weight.data,
                      .rows = weight.shape[0],
                      .columns = weight.shape[1],
                      .bits = static_cast<std::uint8_t*>(bits.data),
                      .starts = static_cast<const std::int64_t*>(starts.data),
                      .values = ArrayView(kPack, "values", values, true).view().data};
  DeviceArrays arrays;
  arrays.add({"weight", args.weight, item(args.dtype), {{weight.numel(), 1}}, Use::kInput});
  arrays.add({"bits", args.bits, 1, {{bits.numel(), 1}}, Use::kInput});
  arrays.add({"starts", args.starts, 8, {{starts.numel(), 1}}, Use::kInput});
  arrays.add({"values", args.values, item(args.dtype), {{count, 1}}, Use::kOutput});
  arrays.upload();
  args.weight = arrays.at(args.weight);
  args.bits = arrays.at(args.bits);
  args.starts = arrays.at(args.starts);
  args.values = arrays.at(args.values);
  cuda::sparse_values(args, turn.launch());
  arrays.download();
  return values;
}

// (bits, values, starts)
py::tuple pack(const py::object& weight, const py::object& mask) {
  const ArrayView from(kPack, "weight", weight, false), keep(kPack, "mask", mask, false);
  const TensorView view = from.view();
  check_bitmap_dtype(kPack, "weight", view.dtype);
  check_pack_sparse(kPack, view, keep.view());
  const py::object bits = bits_of(view, keep.view());
  const ArrayView of_bits(kPack, "bits", bits, false);
  const py::object starts = starts_of(of_bits.view());
  const ArrayView of_starts(kPack, "starts", starts, false);
  return py::make_tuple(bits, values_of(view, of_bits.view(), of_starts.view()), starts);
}

// A weight's three arrays.
struct WeightViews {
  ArrayView bits, values, starts;

  explicit WeightViews(const py::tuple& weight)
      : bits(kOp, "bits", weight[0], false),
        values(kOp, "values", weight[1], false),
        starts(kOp, "starts", weight[2], false) {}
  BitmapTensors tensors() const { return {bits.view(), values.view(), starts.view()}; }
};

py::object unpack(const py::tuple& weight, std::int64_t columns, bool widen) {
  const WeightViews views(weight);
  BitmapUnpackArgs args{.matrix = bitmap_matrix(kOp, views.tensors(), columns),
                        .dtype = DType::kFloat32,
                        .dense = nullptr};
  if (!widen) args.dtype = args.matrix.dtype;
  py::object dense = make_array({args.matrix.rows, columns}, args.dtype);
  args.dense = ArrayView(kOp, "out", dense, true).view().data;
  const Turn turn;
  DeviceArrays arrays;
  add(arrays, args.matrix);
  const std::int64_t count = args.matrix.rows * columns;
  arrays.add({"dense", args.dense, item(args.dtype), {{count, 1}}, Use::kOutput});
  arrays.upload();
  move(arrays, args.matrix);
  args.dense = arrays.at(args.dense);
  cuda::unpack_sparse(args, turn.launch());
  arrays.download();
  return dense;
}

py::object multiply(const py::object& x, const py::tuple& weight, const py::object& bias,
                    const std::string& activation) {
  const WeightViews views(weight);
  const ArrayView input(kOp, "input", x, false), added(kOp, "bias", bias, false);
  BitmapLinearTensors tensors{input.view(), views.tensors(), added.view(), {}};
  const BitmapMatrix matrix = checked_bitmap_linear(kOp, tensors);
  if (!widens(matrix.dtype, tensors.x.dtype)) {
    throw_type_error(kOp, ": values would have to be rounded to the input's dtype");
  }
  std::vector<std::int64_t> shape(tensors.x.shape, tensors.x.shape + tensors.x.dims);
  shape.back() = matrix.rows;
  py::object result = make_array(shape, tensors.x.dtype);
  const ArrayView to(kOp, "out", result, true);
  tensors.y = to.view();
  BitmapLinearArgs args = bitmap_linear_args(matrix, tensors, activation_named(kOp, activation));
  const Turn turn;
  DeviceArrays arrays;
  add(arrays, args.weight);
  const std::size_t bytes = item(args.dtype);
  arrays.add(
      {"input", args.x, bytes, {{args.rows, args.x_stride}, {matrix.columns, 1}}, Use::kInput});
  arrays.add({"bias", args.bias, item(args.bias_dtype), {{matrix.rows, 1}}, Use::kInput});
  arrays.add({"output", args.y, bytes, {{args.rows * matrix.rows, 1}}, Use::kOutput});
  arrays.upload();
  move(arrays, args.weight);
  args.x = arrays.at(args.x);
  args.bias = arrays.at(args.bias);
  args.y = arrays.at(args.y);
  cuda::sparse_linear(args, turn.launch());
  arrays.download();
  return result;
}

}  // namespace

void bind_sparse(py::module_& module) {
  module.def("pack_sparse", &pack, "bits, values and starts of a weight, by the CUDA kernels.",
             "weight"_a, "mask"_a = py::none());
  module.def("unpack_sparse", &unpack,
             "The dense weight, of the values' dtype or widened to float32, by the CUDA kernels.",
             "weight"_a, "columns"_a, "widen"_a = false);
  module.def(
      "sparse_linear", &multiply,
      "sparse_linear of up to eight rows, by the CUDA kernels; weight is (bits, values, starts).",
      "input"_a, "weight"_a, "bias"_a = py::none(), "activation"_a = "");
}

}  // namespace strop::cuda_host
