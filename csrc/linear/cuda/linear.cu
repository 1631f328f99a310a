// packed_linear of masked weights on a GPU, for a few rows of x: bits and values are read once, at
// the speed of the memory, by a warp for each row of the weight; x stays in the first cache. Many
// rows of x go by unpack_masked and a dense product.

#include "linear/cuda/linear.cuh"
#include "linear/cuda/tiles.cuh"

namespace strop::linear::cuda {
using namespace strop::cuda;
namespace {

// Adds to the sums, one for each row of x, what a byte's columns give. What was pruned takes no
// part, whatever x is.
template <class Values, class T, int kRows>
__device__ __forceinline__ void multiply_add(const LinearRows& args, std::int64_t all, int at,
                                             bool whole, int byte, const Values* values,
                                             float (&sums)[kRows]) {
  float kept[8];  // each at its column's place
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (byte >> i & 1) kept[i] = widened(*values);
    values += byte >> i & 1;
  }
  const std::int64_t column = std::int64_t{at} * 8;
  const T* const x = static_cast<const T*>(args.x) + column;
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    if (m >= static_cast<int>(args.rows)) break;
    float columns[8];
    load_columns(x + m * args.x_stride, whole, all - column, columns);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (byte >> i & 1) sums[m] = __fmaf_rn(kept[i], columns[i], sums[m]);
    }
  }
}

// x is read 16 bytes at a time for a row's first `whole` bytes.
template <class Values, class T, int kRows>
__global__ void __launch_bounds__(kMaskedThreads)
    packed_linear_kernel(const __grid_constant__ BitmapLinearArgs args, int whole) {
  __shared__ Scratch<Values> rooms[kMaskedWarps];
  const BitmapMatrix& weight = args.weight;
  const auto bytes = static_cast<int>(weight.row_bytes());
  for_each_row(weight.rows, [&](std::int64_t row) {
    const auto* const values = static_cast<const Values*>(weight.values) + weight.starts[row];
    float sums[kRows] = {};
    for_each_byte(weight.bits + row * bytes, bytes,
                  ValuesAhead<Values>{values, rooms[threadIdx.x / kWarp]},
                  [&](int at, int byte, const Values* own) {
                    if (byte == 0) return;  // 43 % of them, where 90 % are pruned: no x is read
                    multiply_add<Values, T>(args, weight.columns, at, at < whole, byte, own, sums);
                  });
    store_sums<T>(args, row, sums);
  });
}

// Values of 16 bits, as tiles take them.
template <class T>
struct ValuesOfTiles {
  using Scratch = cuda::Scratch<T>;

  BitmapMatrix matrix;

  __host__ __device__ std::int64_t rows() const { return matrix.rows; }
  __device__ __forceinline__ std::int64_t columns() const { return matrix.columns; }
  static constexpr __device__ bool grouped() { return false; }
  __device__ __forceinline__ float scale(std::int64_t, std::int64_t) const { return 1; }
  __device__ __forceinline__ float scaled(std::int64_t, float sum) const { return sum; }
  __device__ __forceinline__ void fill(float*) const {}

  // Calls visit(at, byte, values) along a row, and done(begin) after a word of the warp.
  template <class Visit, class Done = Nothing>
  __device__ __forceinline__ void for_each_kept(std::int64_t row, Scratch& scratch, Visit visit,
                                                Done done = {}) const {
    const auto bytes = static_cast<int>(matrix.row_bytes());
    const T* const values = static_cast<const T*>(matrix.values) + matrix.starts[row];
    for_each_byte(matrix.bits + row * bytes, bytes, ValuesAhead<T>{values, scratch}, visit, done);
  }
  template <class Visit, class Done>
  __device__ __forceinline__ void for_each_eight(std::int64_t row, const float*, Scratch& scratch,
                                                 Visit visit, Done done) const {
    for_each_kept(
        row, scratch,
        [&](int at, int byte, const T* own) {
          Eight<T> columns = {};
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            if (byte >> i & 1) columns.fill(i, *own);
            own += byte >> i & 1;
          }
          visit(at, columns);
        },
        done);
  }
  __device__ __forceinline__ void multiply_row(const LinearRows& one, const float*,
                                               Scratch& scratch, std::int64_t row, float (&sum)[1],
                                               bool vectors) const {
    const auto whole = vectors ? static_cast<int>(matrix.columns / 8) : 0;
    for_each_kept(row, scratch, [&](int at, int byte, const T* own) {
      if (byte != 0) multiply_add<T, T>(one, matrix.columns, at, at < whole, byte, own, sum);
    });
  }
};

template <class Values, class T>
void multiply(const BitmapLinearArgs& args, const Launch& on) {
  if constexpr (sizeof(T) == 2) {
    if (args.rows >= kMinTileRows) {
      return multiply_tiles<T>(args, ValuesOfTiles<T>{args.weight}, on);
    }
  }
  const bool vectors = rows_are_vectors(args.x, args.rows > 1 ? args.x_stride : 0, args.dtype);
  const int whole = vectors ? static_cast<int>(args.weight.columns / 8) : 0;
  const auto with = [&](auto kernel) {
    launch(on, kernel, row_blocks(args.weight.rows), kMaskedThreads, args, whole);
  };
  if (args.rows <= 1) return with(packed_linear_kernel<Values, T, 1>);
  if (args.rows <= 2) return with(packed_linear_kernel<Values, T, 2>);
  if constexpr (sizeof(T) == 4) {
    if (args.rows <= 4) return with(packed_linear_kernel<Values, T, 4>);
    if (args.rows <= 8) return with(packed_linear_kernel<Values, T, 8>);
    with(packed_linear_kernel<Values, T, static_cast<int>(kMaxBitmapRows)>);
  }
}

}  // namespace
}  // namespace strop::linear::cuda

namespace strop::linear {

void run(const BitmapLinearArgs& args, const Launch& on) {
  if (args.rows == 0 || args.weight.rows == 0) return;
  cuda::by_widening(args.weight.dtype, args.dtype,
                    [&]<class Values, class T>() { cuda::multiply<Values, T>(args, on); });
}

}  // namespace strop::linear
