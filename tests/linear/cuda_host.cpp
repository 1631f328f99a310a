// The kernels of pruned weights over numpy arrays; a weight is (bits, values, starts).

#include "core/numpy/call.h"
#include "cuda_host/device_arrays.h"
#include "cuda_host/module.h"
#include "linear/bitmap_ops.h"

namespace strop::cuda_host {
namespace {

using namespace strop::linear;

std::size_t item(DType dtype) { return static_cast<std::size_t>(dtype_size(dtype)); }

Array row_of(const char* name, const void* data, std::size_t bytes, std::int64_t count, Use use) {
  return {name, data, bytes, {{count, 1}}, use};
}

void add(DeviceArrays& arrays, const BitmapMatrix& matrix) {
  const std::int64_t bytes = matrix.rows * matrix.row_bytes();
  arrays.add(row_of("bits", matrix.bits, 1, bytes, Use::kInput));
  arrays.add(row_of("values", matrix.values, item(matrix.dtype), matrix.count, Use::kInput));
  arrays.add(row_of("starts", matrix.starts, 8, matrix.rows + 1, Use::kInput));
}

void move(const DeviceArrays& arrays, BitmapMatrix& matrix) {
  matrix.bits = arrays.at(matrix.bits);
  matrix.values = arrays.at(matrix.values);
  matrix.starts = arrays.at(matrix.starts);
}

void run_on_host(const prune::PackMaskArgs& rows, const Launch& on) {
  run_byte_rows(rows, rows.count, rows.bytes(), on);
}

void run_on_host(BitmapBitsArgs args, const Launch& on) {
  DeviceArrays arrays;
  arrays.add(
      row_of("weight", args.weight, item(args.dtype), args.rows * args.columns, Use::kInput));
  arrays.add(row_of("bits", args.bits, 1, args.rows * args.row_bytes(), Use::kOutput));
  arrays.upload();
  args.weight = arrays.at(args.weight);
  args.bits = arrays.at(args.bits);
  run(args, on);
  arrays.download();
}

void run_on_host(BitmapStartsArgs args, const Launch& on) {
  DeviceArrays arrays;
  arrays.add(row_of("bits", args.bits, 1, args.rows * args.row_bytes, Use::kInput));
  arrays.add(row_of("starts", args.starts, 8, args.rows + 1, Use::kOutput));
  arrays.upload();
  args.bits = arrays.at(args.bits);
  args.starts = arrays.at(args.starts);
  run(args, on);
  arrays.download();
}

void run_on_host(BitmapValuesArgs args, const Launch& on) {
  const std::size_t bytes = item(args.dtype);
  DeviceArrays arrays;
  arrays.add(row_of("weight", args.weight, bytes, args.rows * args.columns, Use::kInput));
  arrays.add(row_of("bits", args.bits, 1, args.rows * args.row_bytes(), Use::kInput));
  arrays.add(row_of("starts", args.starts, 8, args.rows + 1, Use::kInput));
  arrays.add(row_of("values", args.values, bytes, args.starts[args.rows], Use::kOutput));
  arrays.upload();
  args.weight = arrays.at(args.weight);
  args.bits = arrays.at(args.bits);
  args.starts = arrays.at(args.starts);
  args.values = arrays.at(args.values);
  run(args, on);
  arrays.download();
}

void run_on_host(BitmapUnpackArgs args, const Launch& on) {
  const std::int64_t count = args.matrix.rows * args.matrix.columns;
  DeviceArrays arrays;
  add(arrays, args.matrix);
  arrays.add(row_of("dense", args.dense, item(args.dtype), count, Use::kOutput));
  arrays.upload();
  move(arrays, args.matrix);
  args.dense = arrays.at(args.dense);
  run(args, on);
  arrays.download();
}

void run_on_host(BitmapLinearArgs args, const Launch& on) {
  const std::size_t bytes = item(args.dtype);
  const std::int64_t rows = args.weight.rows, columns = args.weight.columns;
  DeviceArrays arrays;
  add(arrays, args.weight);
  arrays.add({"input", args.x, bytes, {{args.rows, args.x_stride}, {columns, 1}}, Use::kInput});
  arrays.add(row_of("bias", args.bias, item(args.bias_dtype), rows, Use::kInput));
  arrays.add(row_of("output", args.y, bytes, args.rows * rows, Use::kOutput));
  arrays.upload();
  move(arrays, args.weight);
  args.x = arrays.at(args.x);
  args.bias = arrays.at(args.bias);
  args.y = arrays.at(args.y);
  run(args, on);
  arrays.download();
}

constexpr auto kRun = [](const auto& args, const Launch& on) { run_on_host(args, on); };
using Call = NumpyCall<OnHost<kRun>>;

void pack(Call& call) {
  const ArrayView weight = call.tensor("weight");
  const auto mask = call.optional_tensor("mask");
  check_bitmap_dtype(kPackWeight, "weight", view_of(weight).dtype);
  const Bitmap<Call> made = packed(call, weight, mask);
  call.give(made.bits);
  call.give(made.values);
  call.give(made.starts);
}

Bitmap<Call> take_weight(Call& call) {
  const std::vector<ArrayView> arrays = call.tensors("weight");
  return {arrays.at(0), arrays.at(1), arrays.at(2)};
}

void unpack(Call& call) {
  const Bitmap<Call> weight = take_weight(call);
  const auto columns = call.option<std::int64_t>("columns");
  const bool widen = call.option<bool>("widen", false);
  const DType dtype = widen ? DType::kFloat32 : view_of(weight.values).dtype;
  call.give(unpacked(call, weight, columns, dtype));
}

void multiply(Call& call) {
  ArrayView x = call.tensor("input");
  const Bitmap<Call> weight = take_weight(call);
  const auto in = take_linear_inputs(call, std::move(x));
  checked_product<Call>(in, weight, {});
  if (!widens(view_of(weight.values).dtype, view_of(in.x).dtype)) {
    throw_type_error(kPackedLinear, ": values would have to be rounded to the input's dtype");
  }
  call.give(multiply_by_bitmap(call, in, weight));
}

constexpr ArrayOp<OnHost<kRun>> kOps[] = {
    {"pack_masked(weight, mask=None)", kPackWeight, pack},
    {"unpack_masked(weight, columns, widen=False)", kPackedWeight, unpack},
    {"packed_linear(input, weight, bias=None, activation='')", kPackedLinear, multiply},
};

}  // namespace

void bind_linear(pybind11::module_& module) {
  bind(module, kOps, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
