// packed_linear of weights in codes on a GPU, where x stays float: for a few rows of x, and codes
// that are decoded in registers. See Note [Codes on a GPU].

#include <cmath>

#include "linear/cuda/codes.cuh"
#include "linear/cuda/integer_codes.cuh"
#include "linear/cuda/kept_codes.cuh"

namespace strop::linear::cuda {

Decoding::Decoding(const NumberFormat& format) : kind(CodeKind::kInteger), table{} {
  const FloatBits& bits = format.layout;
  const auto in_each_byte = [](int byte) { return static_cast<std::uint32_t>(byte) * 0x01010101u; };
  const int sign = 1 << (format.bits - 1);
  flip = in_each_byte(format.is_signed ? sign : 0);
  origin = 0x1p23f + static_cast<float>(format.is_signed ? sign : 0);
  shift = 8 - (format.bits - 1 - bits.mantissa);
  kept = 0x80000000u | static_cast<std::uint32_t>(sign - 1) << (23 - bits.mantissa);
  factor = std::ldexp(1.0f, 127 - bits.bias);
  infinity = bits.infinity;
  specials = bits.nan == 0 ? 0 : in_each_byte(0x80 - (infinity != 0 ? infinity : bits.nan));
  if (format.grid == Grid::kInteger) return;
  kind = format.bits <= 4 ? CodeKind::kTable : CodeKind::kFloat;
  if (kind != CodeKind::kTable) return;
  for (int code = 0; code < 16; ++code) table[code] = static_cast<float>(format.value(code));
}

static bool units_are_whole(const PackedCodes& weight) {
  const int bytes = weight.format.bits;  // of a unit
  const Pieces pieces = weight.pieces(kUnit);
  return (bytes == 4 || bytes == 8) &&
         reinterpret_cast<std::uintptr_t>(weight.problem.input) % bytes == 0 &&
         (weight.rows() == 1 || weight.columns() % kUnit == 0) &&
         (pieces.groups() == 1 || pieces.group % kUnit == 0);
}

CodesMatrixOnGpu::CodesMatrixOnGpu(const PackedCodes& weight)
    : codes(static_cast<const std::uint8_t*>(weight.problem.input)),
      rows(weight.rows()),
      columns(weight.columns()),
      row_bytes(quantize::code_row_bytes(weight.columns(), weight.format.bits)),
      bits(weight.format.bits),
      whole(units_are_whole(weight)),
      scales(weight.format.scales),
      zero_point_dtype(weight.problem.zero_point_dtype),
      scale(weight.problem.scale),
      tensor_scale(static_cast<const float*>(weight.problem.tensor_scale)),
      zero_point(weight.problem.zero_point),
      block_rows(weight.problem.dim[0].block > 0 ? weight.problem.dim[0].block : 1),
      row_step{weight.problem.dim[0].scale, weight.problem.dim[0].zero_point},
      group_step{weight.problem.dim[1].scale, weight.problem.dim[1].zero_point} {}

namespace {

constexpr int kFloatUnits = 2;  // of a piece

struct Task {
  LinearRows rows;
  CodesMatrixOnGpu weight;
  Decoding decoding;
  PiecesOnGpu pieces;
  bool whole;  // pieces of eight columns of x may be read 16 bytes at a time
};

// The numbers of a unit of each row.
__device__ __forceinline__ void decode(const Task& task, const float* table,
                                       const std::uint64_t (&held)[kWeightRows],
                                       float (&values)[kWeightRows][kUnit]) {
  const int bits = task.weight.bits;
  if (task.decoding.kind == CodeKind::kInteger) {
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      integers(task.decoding, CodeBytes::of(held[r], bits), values[r]);
    }
  } else if (task.decoding.kind == CodeKind::kTable) {
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      from_table(table, CodeBytes::of(held[r], bits), values[r]);
    }
  } else {
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      floats(task.decoding, CodeBytes::of(held[r], bits), bits, values[r]);
    }
  }
}

// Adds a unit's products to the sums, which are of rows of x times those of the weight.
template <class T, int kRows>
__device__ __forceinline__ void multiply_add(const Task& task, std::int64_t column,
                                             std::int64_t count,
                                             const float (&values)[kWeightRows][kUnit],
                                             const float (&scale)[kWeightRows],
                                             float (&sums)[kRows * kWeightRows]) {
  const T* const x = static_cast<const T*>(task.rows.x) + column;
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    if (m >= static_cast<int>(task.rows.rows)) break;
    float columns[kUnit];
    load_columns(x + m * task.rows.x_stride, task.whole && count >= kUnit, count, columns);
#pragma unroll
    for (int r = 0; r < kWeightRows; ++r) {
      float sum = values[r][0] * columns[0];
#pragma unroll
      for (int i = 1; i < kUnit; ++i) sum = __fmaf_rn(values[r][i], columns[i], sum);
      sums[m * kWeightRows + r] = __fmaf_rn(sum, scale[r], sums[m * kWeightRows + r]);
    }
  }
}

// A piece that is loaded before those before it are used.
struct Held {
  PiecesOnGpu::Place at;
  std::uint64_t codes[kFloatUnits][kWeightRows];
};

template <class T, int kRows>
__device__ __forceinline__ void multiply_piece(const Task& task, const RowsOfBlock& block,
                                               const Held& held, const float* table,
                                               float (&sums)[kRows * kWeightRows]) {
  if (held.at.count <= 0) return;
  float scale[kWeightRows], zero[kWeightRows];
#pragma unroll
  for (int r = 0; r < kWeightRows; ++r) {
    const Parameters of = task.weight.parameters(block, r, held.at.group);
    scale[r] = task.weight.scale_at(of);
    zero[r] = task.weight.zero_at(of);
  }
#pragma unroll
  for (int u = 0; u < kFloatUnits; ++u) {
    const std::int64_t left = held.at.count - u * kUnit;
    if (left <= 0) continue;
    float values[kWeightRows][kUnit];
    decode(task, table, held.codes[u], values);
    if (task.weight.zero_point != nullptr) {
#pragma unroll
      for (int r = 0; r < kWeightRows; ++r) {
#pragma unroll
        for (int i = 0; i < kUnit; ++i) values[r][i] -= zero[r];
      }
    }
    multiply_add<T, kRows>(task, held.at.column + u * kUnit, left, values, scale, sums);
  }
}

// kAhead pieces of a thread are loaded before the first is used.
template <class T, int kRows, int kAhead>
__global__ void __launch_bounds__(kCodesThreads, 4)
    packed_codes_kernel(const __grid_constant__ Task task) {
  constexpr int kSums = kRows * kWeightRows;
  __shared__ float table[16];
  __shared__ float shared[kCodesWarps][kSums];
  if (threadIdx.x < 16) table[threadIdx.x] = task.decoding.table[threadIdx.x];
  const CodesMatrixOnGpu& weight = task.weight;
  const std::int64_t step = std::int64_t{gridDim.x} * kWeightRows;
  for (std::int64_t first = std::int64_t{blockIdx.x} * kWeightRows; first < weight.rows;
       first += step) {
    __syncthreads();  // the table is there, and the sums before have been read
    const RowsOfBlock block = weight.rows_from(first);
    float sums[kSums] = {};
    for (std::int64_t begin = threadIdx.x; begin < task.pieces.all;
         begin += kAhead * kCodesThreads) {
      Held held[kAhead];
#pragma unroll
      for (int s = 0; s < kAhead; ++s) {
        const std::int64_t piece = begin + s * kCodesThreads;
        held[s].at = piece < task.pieces.all ? task.pieces.place(piece) : PiecesOnGpu::Place{};
        weight.load(block, held[s].at, held[s].codes);
      }
#pragma unroll
      for (int s = 0; s < kAhead; ++s) {
        multiply_piece<T, kRows>(task, block, held[s], table, sums);
      }
    }
    const float sum = add_threads(sums, shared);
    const int m = static_cast<int>(threadIdx.x) / kWeightRows;
    const std::int64_t row = first + threadIdx.x % kWeightRows;
    if (m < kRows && m < task.rows.rows && row < weight.rows) {
      store_result(task.rows, m, row, sum);
    }
  }
}

template <class T>
void multiply(const PackedCodesArgs& args, const Launch& on) {
  const Pieces pieces = args.weight.pieces(kFloatUnits * kUnit);
  const bool vectors = rows_are_vectors(args.x, args.rows > 1 ? args.x_stride : 0, args.dtype);
  const Task task = {.rows = args,
                     .weight = CodesMatrixOnGpu(args.weight),
                     .decoding = Decoding(args.weight.format),
                     .pieces = PiecesOnGpu(pieces),
                     .whole = vectors && (pieces.groups() == 1 || pieces.group % kUnit == 0)};
  const auto with = [&](auto kernel) {
    launch(on, kernel, weight_blocks(task.weight.rows), kCodesThreads, task);
  };
  if (args.rows <= 1) return with(packed_codes_kernel<T, 1, 2>);
  if (args.rows <= 4) return with(packed_codes_kernel<T, 4, 1>);
  with(packed_codes_kernel<T, static_cast<int>(kMaxCodesRows), 1>);
}

}  // namespace
}  // namespace strop::linear::cuda

namespace strop::linear {

std::size_t workspace_bytes(const PackedCodesArgs& args, const Launch&) {
  return args.activations == Activations::kExact ? 0 : cuda::input_codes_bytes(args);
}

void run(const PackedCodesArgs& args, void* workspace, const Launch& on) {
  if (args.rows == 0 || args.weight.rows() == 0) return;
  if (args.activations != Activations::kExact) {
    return cuda::multiply_integers(args, workspace, on);
  }
  if (args.weight.bits != nullptr) return cuda::multiply_kept(args, on);
  by_narrow_dtype(args.dtype, [&]<class T>() { cuda::multiply<T>(args, on); });
}

}  // namespace strop::linear
