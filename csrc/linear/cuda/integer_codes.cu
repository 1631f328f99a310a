// packed_linear of weights in codes on a GPU, where x is quantized as well: sums of integers, which
// are exact, and floats in the order of the contract, so that the bits are the CPU's.

#include "linear/cuda/codes.cuh"
#include "linear/cuda/integer_codes.cuh"

namespace strop::linear::cuda {
namespace {

constexpr int kPieceUnits = static_cast<int>(kPieceColumns) / kUnit;

struct Task {
  LinearRows rows;
  CodesMatrixOnGpu weight;
  PiecesOnGpu pieces;
  InputCodes input;
  Divider chunks;      // of kMaxCodesRows rows of x
  std::uint32_t flip;  // makes codes signed bytes, which are
  int offset;          // so much more than the codes' numbers

  Task(const LinearRows& of, const PackedCodes& codes, const InputCodes& x)
      : rows(of),
        weight(codes),
        pieces(codes.pieces(kPieceColumns)),
        input(x),
        chunks(1 + (of.rows - 1) / kMaxCodesRows) {
    // Signed codes of fewer bits become unsigned, and unsigned ones of eight bits signed.
    const bool bytes = weight.bits == 8, is_signed = codes.format.is_signed;
    const int sign = 1 << (weight.bits - 1);
    const bool flips = bytes != is_signed;
    flip = flips ? static_cast<std::uint32_t>(sign) * 0x01010101u : 0;
    offset = flips ? (bytes ? -sign : sign) : 0;
  }

  // Of a weight's bytes.
  __device__ __forceinline__ int zero_at(const Parameters& at) const {
    return static_cast<int>(weight.zero_at(at)) + offset;
  }
};

// The rows that a thread block works on.
struct Rows {
  std::int64_t x;  // from this one on
  std::int64_t weight;
  RowsOfBlock block;
};

// A word whose bytes are 1 where there is a column.
__device__ __forceinline__ std::uint32_t ones(std::int64_t columns) {
  if (columns >= 4) return 0x01010101u;
  return columns <= 0 ? 0 : 0x01010101u >> (8 * (4 - static_cast<int>(columns)));
}

// Adds a piece's sums, less what both zero points add to each product.
template <int kRows>
__device__ __forceinline__ void add_piece(const Task& task, const Rows& first, std::int64_t piece,
                                          const PiecesOnGpu::Place& at,
                                          int (&sums)[kRows * kWeightRows]) {
  const CodesMatrixOnGpu& weight = task.weight;
  std::uint64_t held[kPieceUnits][kWeightRows];
  weight.load(first.block, at, held);
  int dots[kRows * kWeightRows] = {}, own[kWeightRows] = {};
  const std::int8_t* const x =
      task.input.codes + (first.x * task.pieces.all + piece) * kPieceColumns;
#pragma unroll
  for (int u = 0; u < kPieceUnits; ++u) {
    const std::int64_t left = at.count - u * kUnit;
    if (left <= 0) continue;
    CodeBytes bytes[kWeightRows];
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      bytes[r] = CodeBytes::of(held[u][r], weight.bits);
      bytes[r].word[0] ^= task.flip;
      bytes[r].word[1] ^= task.flip;
      own[r] = dot_bytes(bytes[r].word[0], ones(left), own[r]);
      own[r] = dot_bytes(bytes[r].word[1], ones(left - 4), own[r]);
    }
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      if (first.x + m >= task.rows.rows) break;
      const std::int8_t* const from = x + m * task.pieces.all * kPieceColumns + u * kUnit;
      const auto columns = *reinterpret_cast<const Vector<std::uint32_t, 2>*>(from);
#pragma unroll
      for (int r = 0; r < kWeightRows; ++r) {
        int& dot = dots[m * kWeightRows + r];
        dot = dot_bytes(columns.lane(0), bytes[r].word[0], dot);
        dot = dot_bytes(columns.lane(1), bytes[r].word[1], dot);
      }
    }
  }
  int zero[kWeightRows];
#pragma unroll
  for (int r = 0; r < kWeightRows; ++r) {
    zero[r] = task.zero_at(weight.parameters(first.block, r, at.group));
  }
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    if (first.x + m >= task.rows.rows) break;
    const int x_zero = task.input.zero[first.x + m];
    const int x_sum = task.input.sums[(first.x + m) * task.pieces.all + piece];
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      const int i = m * kWeightRows + r;
      sums[i] += dots[i] - x_zero * own[r] - zero[r] * x_sum;
    }
  }
}

// Where rows are one group: product number i is thread i's.
template <int kRows>
__device__ __forceinline__ float product_of_one_group(const Task& task, const Rows& first) {
  constexpr int kSums = kRows * kWeightRows;
  __shared__ std::int64_t shared[kCodesWarps][kSums];
  int sums[kSums] = {};
  for (std::int64_t piece = threadIdx.x; piece < task.pieces.all; piece += kCodesThreads) {
    add_piece<kRows>(task, first, piece, task.pieces.place(0, piece), sums);
  }
  std::int64_t wide[kSums];
#pragma unroll
  for (int i = 0; i < kSums; ++i) wide[i] = sums[i];
  const auto sum = static_cast<float>(add_threads(wide, shared));
  const std::int64_t m = first.x + threadIdx.x / kWeightRows;
  if (threadIdx.x >= kSums || m >= task.rows.rows || task.pieces.all == 0) return 0;
  const std::int64_t row = first.weight + threadIdx.x % kWeightRows;
  if (row >= task.weight.rows) return 0;
  return sum * (task.input.scale[m] * task.weight.scale_at(task.weight.parameters(row, 0)));
}

// Where they are several. As many groups as there are threads for their pieces are summed at a
// time, then multiplied by their scales, all side by side; the floats are added up in the groups'
// order.
template <int kRows>
__device__ __forceinline__ float product_of_groups(const Task& task, const Rows& first) {
  constexpr int kSums = kRows * kWeightRows;
  __shared__ int shared[kSums][kCodesThreads + 1];  // (one more: no two rows begin in one bank)
  const PiecesOnGpu& pieces = task.pieces;
  const std::int64_t of_group = pieces.of_group.divisor();
  const int threads = of_group < kCodesThreads ? static_cast<int>(of_group) : kCodesThreads;
  const int at_once = kCodesThreads / threads, thread = static_cast<int>(threadIdx.x);
  const int own = thread / threads;
  float all = 0;
  for (std::int64_t begin = 0; begin < pieces.groups; begin += at_once) {
    const int count =
        pieces.groups - begin < at_once ? static_cast<int>(pieces.groups - begin) : at_once;
    if (own < count) {
      int sums[kSums] = {};
      for (std::int64_t number = thread % threads; number < of_group; number += threads) {
        const PiecesOnGpu::Place at = pieces.place(begin + own, number);
        if (at.count <= 0) break;
        add_piece<kRows>(task, first, (begin + own) * of_group + number, at, sums);
      }
#pragma unroll
      for (int i = 0; i < kSums; ++i) shared[i][thread] = sums[i];
    }
    __syncthreads();
    for (int item = thread; item < count * kSums; item += kCodesThreads) {
      const int group = item / kSums, i = item % kSums;
      std::int64_t sum = 0;
      for (int t = 0; t < threads; ++t) sum += shared[i][group * threads + t];
      const std::int64_t row = first.weight + i % kWeightRows;
      if (row >= task.weight.rows) continue;
      const float scale = task.weight.scale_at(task.weight.parameters(row, begin + group));
      shared[i][group * threads] = __float_as_int(static_cast<float>(sum) * scale);
    }
    __syncthreads();
    if (thread < kSums) {
      for (int group = 0; group < count; ++group) {
        const float scaled = __int_as_float(shared[thread][group * threads]);
        all = begin + group == 0 ? scaled : all + scaled;
      }
    }
    __syncthreads();
  }
  const std::int64_t m = first.x + threadIdx.x / kWeightRows;
  return thread < kSums && m < task.rows.rows ? all * task.input.scale[m] : 0;
}

template <int kRows, bool kOneGroup>
__global__ void __launch_bounds__(kCodesThreads, 4)
    integer_codes_kernel(const __grid_constant__ Task task) {
  const std::int64_t items =
      (task.weight.rows + kWeightRows - 1) / kWeightRows * task.chunks.divisor();
  for (std::int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const std::int64_t block = task.chunks.quotient(item);
    const Rows first = {(item - block * task.chunks.divisor()) * kMaxCodesRows, block * kWeightRows,
                        task.weight.rows_from(block * kWeightRows)};
    __syncthreads();  // the sums before have been read
    float product = 0;
    if constexpr (kOneGroup) {
      product = product_of_one_group<kRows>(task, first);
    } else {
      product = product_of_groups<kRows>(task, first);
    }
    const int m = static_cast<int>(threadIdx.x) / kWeightRows;
    const std::int64_t row = first.weight + threadIdx.x % kWeightRows;
    if (m < kRows && first.x + m < task.rows.rows && row < task.weight.rows) {
      store_result(task.rows, first.x + m, row, product);
    }
  }
}

__global__ void __launch_bounds__(kCodesThreads)
    weight_bytes_kernel(const __grid_constant__ Task task, std::int8_t* bytes, std::int32_t* sums) {
  __shared__ int shared[kCodesWarps][1];
  const CodesMatrixOnGpu& weight = task.weight;
  for (std::int64_t row = blockIdx.x; row < weight.rows; row += gridDim.x) {
    const RowsOfBlock block = weight.rows_from(row);
    int sum[1] = {};
    for (std::int64_t column = threadIdx.x * kUnit; column < weight.columns;
         column += kCodesThreads * kUnit) {
      CodeBytes unit = CodeBytes::of(weight.load(block, 0, column, kUnit), weight.bits);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        unit.word[i] ^= task.flip;
        sum[0] = dot_bytes(unit.word[i], 0x01010101u, sum[0]);
      }
      *reinterpret_cast<Vector<std::uint32_t, 2>*>(bytes + row * weight.columns +
                                                   column) = {{unit.word[0], unit.word[1]}};
    }
    __syncthreads();  // the sums before have been read
    const int all = add_threads(sum, shared);
    if (threadIdx.x == 0) sums[row] = all;
  }
}

constexpr std::int64_t kStretch = 8 * kCodesThreads;  // of a row of products

__global__ void __launch_bounds__(kCodesThreads)
    products_kernel(const __grid_constant__ Task task, const std::int32_t* products,
                    const std::int32_t* weight_sums) {
  __shared__ std::int64_t shared[kCodesWarps][1], x_sum;
  const CodesMatrixOnGpu& weight = task.weight;
  const std::int64_t stretches = (weight.rows + kStretch - 1) / kStretch;
  for (std::int64_t item = blockIdx.x; item < task.rows.rows * stretches; item += gridDim.x) {
    const std::int64_t m = quotient(item, stretches), begin = (item - m * stretches) * kStretch;
    std::int64_t sum[1] = {};
    for (std::int64_t piece = threadIdx.x; piece < task.pieces.all; piece += kCodesThreads) {
      sum[0] += task.input.sums[m * task.pieces.all + piece];
    }
    __syncthreads();  // the sums before have been read
    const std::int64_t all = add_threads(sum, shared);
    if (threadIdx.x == 0) x_sum = all;
    __syncthreads();
    const float x_scale = task.input.scale[m];
    const std::int64_t x_zero = task.input.zero[m], end = begin + kStretch;
    for (std::int64_t n = begin + threadIdx.x; n < end && n < weight.rows; n += kCodesThreads) {
      const Parameters at = weight.parameters(n, 0);
      const std::int64_t product =
          products[m * weight.rows + n] - x_zero * weight_sums[n] - task.zero_at(at) * x_sum;
      store_result(task.rows, m, n, static_cast<float>(product) * (x_scale * weight.scale_at(at)));
    }
  }
}

std::size_t up_to_vectors(std::int64_t bytes) {
  return static_cast<std::size_t>((bytes + kVectorBytes - 1) / kVectorBytes * kVectorBytes);
}

template <bool kOneGroup>
void multiply(const Task& task, const Launch& on) {
  const std::int64_t blocks = weight_blocks(task.weight.rows) * task.chunks.divisor();
  const auto with = [&](auto kernel) { launch(on, kernel, blocks, kCodesThreads, task); };
  if (task.rows.rows <= 1) return with(integer_codes_kernel<1, kOneGroup>);
  if (task.rows.rows <= 4) return with(integer_codes_kernel<4, kOneGroup>);
  with(integer_codes_kernel<static_cast<int>(kMaxCodesRows), kOneGroup>);
}

}  // namespace

std::size_t input_codes_bytes(const PackedCodesArgs& args) {
  const std::int64_t pieces = args.rows * args.weight.pieces(kPieceColumns).all();
  return up_to_vectors(pieces * kPieceColumns) + up_to_vectors(pieces * 4) +
         2 * up_to_vectors(args.rows * 4);
}

void multiply_integers(const PackedCodesArgs& args, void* workspace, const Launch& on) {
  const Pieces pieces = args.weight.pieces(kPieceColumns);
  auto* place = static_cast<std::uint8_t*>(workspace);
  const auto take = [&](std::int64_t bytes) {
    void* const taken = place;
    place += up_to_vectors(bytes);
    return taken;
  };
  const std::int64_t all = args.rows * pieces.all();
  const InputCodes input = {.codes = static_cast<std::int8_t*>(take(all * kPieceColumns)),
                            .scale = static_cast<float*>(take(args.rows * 4)),
                            .zero = static_cast<std::int32_t*>(take(args.rows * 4)),
                            .sums = static_cast<std::int32_t*>(take(all * 4))};
  run(InputCodesArgs{args, args.activations, pieces, input}, on);
  const Task task(args, args.weight, input);
  pieces.groups() > 1 ? multiply<false>(task, on) : multiply<true>(task, on);
}

}  // namespace strop::linear::cuda

namespace strop::linear {

void run(const WeightBytesArgs& args, const Launch& on) {
  if (args.weight.rows() == 0) return;
  cuda::launch(on, cuda::weight_bytes_kernel, args.weight.rows(), cuda::kCodesThreads,
               cuda::Task({}, args.weight, {}), args.bytes, args.sums);
}

void run(const ProductsArgs& args, const Launch& on) {
  const std::int64_t stretches = (args.weight.rows() + cuda::kStretch - 1) / cuda::kStretch;
  if (args.rows * stretches == 0) return;
  cuda::launch(on, cuda::products_kernel, args.rows * stretches, cuda::kCodesThreads,
               cuda::Task(args, args.weight, args.input), args.products, args.sums);
}

}  // namespace strop::linear
