// The kernels of packed weights over numpy arrays; a masked one is (bits, values, starts).

#include "core/numpy/call.h"
#include "cuda_host/device_arrays.h"
#include "cuda_host/module.h"
#include "linear/bitmap_ops.h"
#include "linear/packed_codes_ops.h"

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

void add(DeviceArrays& arrays, const LinearRows& args, std::int64_t rows, std::int64_t columns) {
  const std::size_t bytes = item(args.dtype);
  arrays.add({"input", args.x, bytes, {{args.rows, args.x_stride}, {columns, 1}}, Use::kInput});
  arrays.add(row_of("bias", args.bias, item(args.bias_dtype), rows, Use::kInput));
  arrays.add(row_of("output", args.y, bytes, args.rows * rows, Use::kOutput));
}

void move(const DeviceArrays& arrays, LinearRows& args) {
  args.x = arrays.at(args.x);
  args.bias = arrays.at(args.bias);
  args.y = arrays.at(args.y);
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
  DeviceArrays arrays;
  add(arrays, args.weight);
  add(arrays, args, args.weight.rows, args.weight.columns);
  arrays.upload();
  move(arrays, args.weight);
  move(arrays, args);
  run(args, on);
  arrays.download();
}

void add(DeviceArrays& arrays, const PackedCodes& weight) {
  const quantize::FakeQuantizeArgs& problem = weight.problem;
  const quantize::QuantizeDim &row = problem.dim[0], &column = problem.dim[1];
  std::int64_t bytes = row.size * quantize::code_row_bytes(column.size, weight.format.bits);
  if (weight.bits != nullptr) {
    bytes = quantize::code_row_bytes(weight.starts[row.size], weight.format.bits);
    const std::int64_t row_bytes = (column.size + 7) / 8;
    arrays.add(row_of("bits", weight.bits, 1, row.size * row_bytes, Use::kInput));
    arrays.add(row_of("starts", weight.starts, 8, row.size + 1, Use::kInput));
  }
  const std::size_t scale = weight.format.scales == ScaleKind::kAny ? 4 : 1;
  const bool empty = row.size * column.size == 0;
  const std::int64_t blocks = empty ? 0 : row.blocks(), groups = empty ? 0 : column.blocks();
  arrays.add(row_of("codes", problem.input, 1, bytes, Use::kInput));
  arrays.add(
      {"scale", problem.scale, scale, {{blocks, row.scale}, {groups, column.scale}}, Use::kInput});
  arrays.add({"zero_point",
              problem.zero_point,
              item(problem.zero_point_dtype),
              {{blocks, row.zero_point}, {groups, column.zero_point}},
              Use::kInput});
  arrays.add(row_of("tensor_scale", problem.tensor_scale, 4, 1, Use::kInput));
}

void move(const DeviceArrays& arrays, PackedCodes& weight) {
  quantize::FakeQuantizeArgs& problem = weight.problem;
  problem.input = arrays.at(problem.input);
  problem.scale = arrays.at(problem.scale);
  problem.zero_point = arrays.at(problem.zero_point);
  problem.tensor_scale = arrays.at(problem.tensor_scale);
  weight.bits = arrays.at(weight.bits);
  weight.starts = arrays.at(weight.starts);
}

void add(DeviceArrays& arrays, const InputCodes& codes, std::int64_t rows, Use use,
         std::int64_t pieces) {
  arrays.add(row_of("codes of input", codes.codes, 1, rows * pieces * kPieceColumns, use));
  arrays.add(row_of("scales of input", codes.scale, 4, rows, use));
  arrays.add(row_of("zero points of input", codes.zero, 4, rows, use));
  arrays.add(row_of("sums of input", codes.sums, 4, rows * pieces, use));
}

void move(const DeviceArrays& arrays, InputCodes& codes) {
  codes.codes = arrays.at(codes.codes);
  codes.scale = arrays.at(codes.scale);
  codes.zero = arrays.at(codes.zero);
  codes.sums = arrays.at(codes.sums);
}

void run_on_host(PackedCodesArgs args, const Launch& on) {
  DeviceArrays arrays;
  add(arrays, args.weight);
  add(arrays, args, args.weight.rows(), args.weight.columns());
  arrays.upload();
  move(arrays, args.weight);
  move(arrays, args);
  run(args, arrays.scratch("workspace", workspace_bytes(args, on)), on);
  arrays.download();
}

void run_on_host(KeptCodesUnpackArgs args, const Launch& on) {
  const std::int64_t count = args.weight.rows() * args.weight.columns();
  DeviceArrays arrays;
  add(arrays, args.weight);
  arrays.add(row_of("dense", args.dense, item(args.dtype), count, Use::kOutput));
  arrays.upload();
  move(arrays, args.weight);
  args.dense = arrays.at(args.dense);
  run(args, on);
  arrays.download();
}

void run_on_host(InputCodesArgs args, const Launch& on) {
  DeviceArrays arrays;
  const std::int64_t columns = args.pieces.columns;
  arrays.add(
      {"input", args.x, item(args.dtype), {{args.rows, args.x_stride}, {columns, 1}}, Use::kInput});
  add(arrays, args.to, args.rows, Use::kOutput, args.pieces.all());
  arrays.upload();
  args.x = arrays.at(args.x);
  move(arrays, args.to);
  run(args, on);
  arrays.download();
}

void run_on_host(WeightBytesArgs args, const Launch& on) {
  const std::int64_t rows = args.weight.rows();
  DeviceArrays arrays;
  add(arrays, args.weight);
  arrays.add(row_of("bytes", args.bytes, 1, rows * args.weight.columns(), Use::kOutput));
  arrays.add(row_of("sums", args.sums, 4, rows, Use::kOutput));
  arrays.upload();
  move(arrays, args.weight);
  args.bytes = arrays.at(args.bytes);
  args.sums = arrays.at(args.sums);
  run(args, on);
  arrays.download();
}

void run_on_host(ProductsArgs args, const Launch& on) {
  const std::int64_t rows = args.weight.rows();
  DeviceArrays arrays;
  add(arrays, args.weight);
  add(arrays, args, rows, 0);
  add(arrays, args.input, args.rows, Use::kInput, args.weight.pieces(kPieceColumns).all());
  arrays.add(row_of("products", args.products, 4, args.rows * rows, Use::kInput));
  arrays.add(row_of("sums", args.sums, 4, rows, Use::kInput));
  arrays.upload();
  move(arrays, args.weight);
  move(arrays, args);
  move(arrays, args.input);
  args.products = arrays.at(args.products);
  args.sums = arrays.at(args.sums);
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

// In place of torch's product.
ArrayView byte_product(Call& call, const ArrayView& x, const ArrayView& weight) {
  const TensorView a = view_of(x), b = view_of(weight);
  const std::int64_t rows = a.shape[0], outputs = b.shape[0], columns = a.shape[1];
  ArrayView made = call.empty({rows, outputs}, DType::kInt32, x);
  auto* const to = static_cast<std::int32_t*>(view_of(made).data);
  for (std::int64_t i = 0; i < rows * outputs; ++i) {
    const auto* const left = static_cast<const std::int8_t*>(a.data) + i / outputs * columns;
    const auto* const right = static_cast<const std::int8_t*>(b.data) + i % outputs * columns;
    to[i] = 0;
    for (std::int64_t k = 0; k < columns; ++k) to[i] += left[k] * right[k];
  }
  return made;
}

void multiply_by_codes(Call& call) {
  auto input = call.tensor("input");
  const PackedCodesCall<Call> of = take_packed_codes(call, std::move(input));
  const auto multiply = [&](const ArrayView& x, const ArrayView& weight) {
    return byte_product(call, x, weight);
  };
  call.give(multiply_codes(call, of, {}, multiply));
}

// The dense weight, of the dtype of an input.
void unpack_codes(Call& call) {
  auto input = call.tensor("input");
  const DType dtype = view_of(input).dtype;
  call.give(unpacked_kept(call, take_packed_codes(call, std::move(input)), dtype));
}

constexpr ArrayOp<OnHost<kRun>> kOps[] = {
    {"pack_masked(weight, mask=None)", kPackWeight, pack},
    {"unpack_masked(weight, columns, widen=False)", kPackedWeight, unpack},
    {"packed_linear(input, weight, bias=None, activation='')", kPackedLinear, multiply},
    {"packed_linear_codes(input, codes, scale, zero_point=None, tensor_scale=None, format='', "
     "block_size=None, shape=(), activations='', bias=None, activation='', bits=None, "
     "starts=None)",
     kPackedLinear, multiply_by_codes},
    {"unpack_codes(input, codes, scale, zero_point=None, tensor_scale=None, format='', "
     "block_size=None, shape=(), bits=None, starts=None)",
     kPackedWeight, unpack_codes},
};

}  // namespace

void bind_linear(pybind11::module_& module) {
  bind(module, kOps, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
