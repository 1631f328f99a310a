// Pruned weights to bits, starts and values on a GPU, and back.

#include <type_traits>

#include "core/cuda/divider.cuh"
#include "linear/cuda/linear.cuh"

namespace strop::linear::cuda {
using namespace strop::cuda;
namespace {

// The number of each row's bits, to where the row ends.
__global__ void __launch_bounds__(kMaskedThreads)
    count_rows_kernel(const __grid_constant__ BitmapStartsArgs args) {
  for_each_row(args.rows, [&](std::int64_t row) {
    const std::uint8_t* const bits = args.bits + row * args.row_bytes;
    int count = 0;
    const auto bytes = static_cast<int>(args.row_bytes);
    for (int first = 0; first < bytes; first += kWordBytes) {
      count += __popc(bytes_of_lane(bits, bytes, first));
    }
    const int before = sum_of_lanes_before(count);
    if (lane_id() == kWarp - 1) args.starts[row + 1] = before + count;
  });
}

// One block: counts become where the rows end.
__global__ void __launch_bounds__(kMaskedThreads)
    add_up_kernel(const __grid_constant__ BitmapStartsArgs args) {
  constexpr int kEach = 8;
  __shared__ std::int64_t warps[kMaskedWarps];
  if (threadIdx.x == 0) args.starts[0] = 0;
  std::int64_t* const ends = args.starts + 1;
  std::int64_t done = 0;
  for (std::int64_t first = 0; first < args.rows; first += kMaskedThreads * kEach) {
    const std::int64_t at = first + threadIdx.x * kEach;
    std::int64_t own[kEach], sum = 0, all = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) own[i] = at + i < args.rows ? ends[at + i] : 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) own[i] = sum += own[i];
    const std::int64_t before = done + sum_before(sum, warps, all);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if (at + i < args.rows) ends[at + i] = before + own[i];
    }
    done += all;
  }
}

__device__ __forceinline__ bool is_zero(float value) { return value == 0; }
template <class T>
__device__ __forceinline__ bool is_zero(T value) {
  return (value.bits & 0x7fff) == 0;
}

// A thread has a byte. `vectors`: its eight weights may be read 16 bytes at a time.
template <class T>
__global__ void __launch_bounds__(kMaskedThreads)
    nonzeros_kernel(const __grid_constant__ BitmapBitsArgs args,
                    const __grid_constant__ Divider row_bytes, bool vectors) {
  constexpr int kVector = kVectorBytes / static_cast<int>(sizeof(T));
  const std::int64_t all = args.rows * row_bytes.divisor();
  const std::int64_t step = std::int64_t{gridDim.x} * kMaskedThreads;
  for (std::int64_t byte = std::int64_t{blockIdx.x} * kMaskedThreads + threadIdx.x; byte < all;
       byte += step) {
    const std::int64_t row = row_bytes.quotient(byte);
    const std::int64_t column = (byte - row * row_bytes.divisor()) * 8;
    const T* const from = static_cast<const T*>(args.weight) + row * args.columns + column;
    unsigned bits = 0;
    if (vectors) {
#pragma unroll
      for (int first = 0; first < 8; first += kVector) {
        const auto held = *reinterpret_cast<const Vector<T, kVector>*>(from + first);
#pragma unroll
        for (int i = 0; i < kVector; ++i) bits |= (is_zero(held.lane(i)) ? 0u : 1u) << (first + i);
      }
    } else {
      for (int i = 0; i < 8 && column + i < args.columns; ++i) {
        bits |= (is_zero(from[i]) ? 0u : 1u) << i;
      }
    }
    args.bits[byte] = static_cast<std::uint8_t>(bits);
  }
}

template <class T>
__global__ void __launch_bounds__(kMaskedThreads)
    values_kernel(const __grid_constant__ BitmapValuesArgs args) {
  const auto bytes = static_cast<int>(args.row_bytes());
  for_each_row(args.rows, [&](std::int64_t row) {
    const T* const from = static_cast<const T*>(args.weight) + row * args.columns;
    T* to = static_cast<T*>(args.values) + args.starts[row];
    for (int begin = 0; begin < bytes; begin += kWordBytes) {
      const Word word = Word::of(bytes_of_lane(args.bits + row * bytes, bytes, begin));
      for_each_step(word, begin, bytes, [&](int at, int byte, int place) {
        for (int i = 0; i < 8; ++i) {
          if (byte >> i & 1) to[place++] = from[std::int64_t{at} * 8 + i];
        }
      });
      to += word.count();
    }
  });
}

template <class Values, class T>
__device__ __forceinline__ T converted(Values value) {
  if constexpr (std::is_same_v<Values, T>) {
    return value;  // to the bit, a NaN's too
  } else {
    return widened(value);
  }
}

template <class Values, class T>
__global__ void __launch_bounds__(kMaskedThreads)
    unpack_kernel(const __grid_constant__ BitmapUnpackArgs args, bool vectors) {
  __shared__ Scratch<Values> rooms[kMaskedWarps];
  const BitmapMatrix& matrix = args.matrix;
  const auto bytes = static_cast<int>(matrix.row_bytes());
  for_each_row(matrix.rows, [&](std::int64_t row) {
    const auto* const values = static_cast<const Values*>(matrix.values) + matrix.starts[row];
    T* const dense = static_cast<T*>(args.dense) + row * matrix.columns;
    for_each_byte(matrix.bits + row * bytes, bytes,
                  ValuesAhead<Values>{values, rooms[threadIdx.x / kWarp]},
                  [&](int at, int byte, const Values* own) {
                    if (at >= bytes) return;
                    T columns[8] = {};
#pragma unroll
                    for (int i = 0; i < 8; ++i) {
                      if (byte >> i & 1) columns[i] = converted<Values, T>(*own);
                      own += byte >> i & 1;
                    }
                    const std::int64_t column = std::int64_t{at} * 8;
                    write_columns(dense + column, matrix.columns - column, vectors, columns);
                  });
  });
}

}  // namespace
}  // namespace strop::linear::cuda

namespace strop::linear {

void run(const BitmapBitsArgs& args, const Launch& on) {
  if (args.rows * args.columns == 0) return;
  const std::int64_t threads = args.rows * args.row_bytes();
  const std::int64_t blocks = (threads + cuda::kMaskedThreads - 1) / cuda::kMaskedThreads;
  const bool vectors =
      args.columns % 8 == 0 && cuda::rows_are_vectors(args.weight, args.columns, args.dtype);
  by_narrow_dtype(args.dtype, [&]<class T>() {
    cuda::launch(on, cuda::nonzeros_kernel<T>, blocks, cuda::kMaskedThreads, args,
                 cuda::Divider(args.row_bytes()), vectors);
  });
}

void run(const BitmapStartsArgs& args, const Launch& on) {
  const std::int64_t blocks = cuda::row_blocks(args.rows);
  if (blocks > 0) cuda::launch(on, cuda::count_rows_kernel, blocks, cuda::kMaskedThreads, args);
  cuda::launch(on, cuda::add_up_kernel, 1, cuda::kMaskedThreads, args);
}

void run(const BitmapValuesArgs& args, const Launch& on) {
  if (args.rows * args.columns == 0) return;
  by_narrow_dtype(args.dtype, [&]<class T>() {
    cuda::launch(on, cuda::values_kernel<T>, cuda::row_blocks(args.rows), cuda::kMaskedThreads,
                 args);
  });
}

void run(const BitmapUnpackArgs& args, const Launch& on) {
  const BitmapMatrix& matrix = args.matrix;
  if (matrix.rows * matrix.columns == 0) return;
  const bool vectors =
      matrix.columns % 8 == 0 && cuda::rows_are_vectors(args.dense, matrix.columns, args.dtype);
  cuda::by_widening(matrix.dtype, args.dtype, [&]<class Values, class T>() {
    cuda::launch(on, cuda::unpack_kernel<Values, T>, cuda::row_blocks(matrix.rows),
                 cuda::kMaskedThreads, args, vectors);
  });
}

}  // namespace strop::linear
