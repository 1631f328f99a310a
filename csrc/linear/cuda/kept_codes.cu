// packed_linear of masked weights in codes on a GPU, where x stays float: bits and the codes of
// what is kept are read once, as bits and values are. See Note [Codes beside a mask on a GPU].

#include "linear/bitmap.h"
#include "linear/cuda/codes.cuh"
#include "linear/cuda/kept_codes.cuh"
#include "linear/cuda/linear.cuh"
#include "linear/cuda/tiles.cuh"

namespace strop::linear::cuda {
namespace {

// The codes of a word, and of the one that is on its way: of eight bits, and up to 31 before them.
struct CodesScratch {
  static constexpr int kWords = kWordColumns / 4 + 1;
  std::uint32_t word[2][kWords];
};

// A lane's codes of a byte in shared memory, up to eight.
struct StagedCodes {
  const std::uint32_t* word;
  int bit;

  // Side by side, `size` bits in all; what lies behind them is left there.
  __device__ __forceinline__ std::uint64_t load(int size) const {
    const std::uint32_t* const from = word + (bit >> 5);
    const int shift = bit & 31;
    const int all = shift + size;
    std::uint64_t low = from[0];
    if (all > 32) low |= std::uint64_t{from[1]} << 32;
    low >>= shift;
    if (all > 64) low |= std::uint64_t{from[2]} << (64 - shift);
    return low;
  }
};

// The codes of a row that are not yet on their way.
struct CodesAhead {
  const std::uint8_t* codes;  // aligned to four bytes
  std::int64_t next;          // a bit
  int width;                  // of a code
  CodesScratch& scratch;

  __device__ __forceinline__ int stage(int count, int turn) {
    const int shift = static_cast<int>(next & 31);
    const int bytes = (shift + count * width + 7) / 8;
    stage_bytes(codes + (next >> 5) * 4, count > 0 ? bytes : 0, scratch.word[turn]);
    next += std::int64_t{count} * width;
    return shift;
  }
  __device__ __forceinline__ StagedCodes staged(int turn, int shift, int place) const {
    return {scratch.word[turn], shift + place * width};
  }
};

// The codes of a byte, the first in the first byte, each at its column's place; others where
// nothing is kept. A nibble of `ranks` has how many of the bits before its own are set.
__device__ __forceinline__ CodeBytes in_columns(const CodeBytes& kept, int byte) {
  auto each = static_cast<std::uint32_t>(byte);
  each = (each | each << 12) & 0x000f000fu;
  each = (each | each << 6) & 0x03030303u;
  each = (each | each << 3) & 0x11111111u;
  const std::uint32_t ranks = each * 0x11111110u;
  return {{__byte_perm(kept.word[0], kept.word[1], ranks),
           __byte_perm(kept.word[0], kept.word[1], ranks >> 16)}};
}

struct KeptWeight {
  CodesMatrixOnGpu matrix;
  const std::uint8_t* bits;
  const std::int64_t* starts;
  Decoding decoding;
  Divider group;  // columns
  bool grouped;   // a row has several groups,
  bool split;     // and the columns of a byte may be of two

  explicit KeptWeight(const PackedCodes& weight)
      : matrix(weight),
        bits(weight.bits),
        starts(weight.starts),
        decoding(weight.format),
        group(weight.pieces(kUnit).group),
        grouped(weight.pieces(kUnit).groups() > 1),
        split(grouped && weight.pieces(kUnit).group % kUnit != 0) {}
};

// A row of the weight, as a warp reads it. kSplit: the columns of a byte may be of several groups,
// which takes several times the code.
template <bool kSplit>
struct KeptRow {
  const KeptWeight& weight;
  const float* table;
  Parameters first;  // of its first group
  float scale;       // of the group at hand
  float zero;

  __device__ __forceinline__ KeptRow(const KeptWeight& of, const float* numbers_of_codes,
                                     std::int64_t row)
      : weight(of), table(numbers_of_codes), first(of.matrix.parameters(row, 0)) {
    to_group(0);
  }

  __device__ __forceinline__ void to_group(std::int64_t group) {
    const Parameters& step = weight.matrix.group_step;
    const Parameters at = {first.scale + group * step.scale,
                           first.zero_point + group * step.zero_point};
    scale = weight.matrix.scale_at(at);
    zero = weight.matrix.zero_at(at);
  }

  // The numbers of a byte's columns, times what is returned; others where nothing is kept.
  __device__ __forceinline__ float decode(int at, int byte, const StagedCodes& staged,
                                          float (&values)[kUnit]) {
    const int width = weight.matrix.bits;
    const std::uint64_t codes = staged.load(__popc(static_cast<unsigned>(byte)) * width);
    numbers(weight.decoding, table, in_columns(CodeBytes::of(codes, width), byte), width, values);
    const std::int64_t column = std::int64_t{at} * kUnit;
    if constexpr (kSplit) {
      for_each_column(column, values);
      return 1;
    }
    if (weight.grouped) to_group(weight.group.quotient(column));
    if (weight.matrix.zero_point != nullptr) {
#pragma unroll
      for (int i = 0; i < kUnit; ++i) values[i] -= zero;
    }
    return scale;
  }

 private:
  __device__ __forceinline__ void for_each_column(std::int64_t column, float (&values)[kUnit]) {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      if (column + i >= weight.matrix.columns) break;
      to_group(weight.group.quotient(column + i));
      values[i] = (values[i] - zero) * scale;
    }
  }
};

// Calls visit(at, byte, values, scale) along a row of the weight, and done(begin) after a word of
// the warp.
template <bool kSplit, class Visit, class Done = Nothing>
__device__ __forceinline__ void for_each_kept(const KeptWeight& weight, const float* table,
                                              CodesScratch& scratch, std::int64_t row, Visit visit,
                                              Done done = {}) {
  const auto bytes = static_cast<int>((weight.matrix.columns + 7) / 8);
  const int width = weight.matrix.bits;
  KeptRow<kSplit> of(weight, table, row);
  for_each_byte(
      weight.bits + row * bytes, bytes,
      CodesAhead{weight.matrix.codes, weight.starts[row] * width, width, scratch},
      [&](int at, int byte, const StagedCodes& staged) {
        float values[kUnit] = {};
        const float scale = byte == 0 ? 1 : of.decode(at, byte, staged, values);
        visit(at, byte, values, scale);
      },
      done);
}

__device__ __forceinline__ void fill_table(const Decoding& decoding, float* table) {
  if (threadIdx.x < 16) table[threadIdx.x] = decoding.table[threadIdx.x];
}

// Adds to the sums, one for each row of x, what a byte's columns give. What was pruned takes no
// part, whatever x is.
template <class T, int kRows>
__device__ __forceinline__ void multiply_add(const LinearRows& args, std::int64_t columns,
                                             bool whole, int at, int byte,
                                             const float (&values)[kUnit], float scale,
                                             float (&sums)[kRows]) {
  const std::int64_t column = std::int64_t{at} * kUnit;
  const T* const x = static_cast<const T*>(args.x) + column;
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    if (m >= static_cast<int>(args.rows)) break;
    float held[kUnit];
    load_columns(x + m * args.x_stride, whole, columns - column, held);
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      if (byte >> i & 1) sum = __fmaf_rn(values[i], held[i], sum);
    }
    sums[m] = __fmaf_rn(sum, scale, sums[m]);
  }
}

// x is read 16 bytes at a time for a row's first `whole` bytes.
template <class T, int kRows, bool kSplit>
__global__ void __launch_bounds__(kMaskedThreads)
    kept_codes_kernel(const __grid_constant__ LinearRows args,
                      const __grid_constant__ KeptWeight weight, int whole) {
  __shared__ CodesScratch rooms[kMaskedWarps];
  __shared__ float table[16];
  fill_table(weight.decoding, table);
  __syncthreads();
  for_each_row(weight.matrix.rows, [&](std::int64_t row) {
    float sums[kRows] = {};
    for_each_kept<kSplit>(weight, table, rooms[threadIdx.x / kWarp], row,
                          [&](int at, int byte, const float (&values)[kUnit], float scale) {
                            if (byte == 0) return;
                            multiply_add<T>(args, weight.matrix.columns, at < whole, at, byte,
                                            values, scale, sums);
                          });
    store_sums<T>(args, row, sums);
  });
}

template <class T, bool kSplit>
__global__ void __launch_bounds__(kMaskedThreads)
    unpack_kept_kernel(const __grid_constant__ KeptWeight weight, T* dense, bool vectors) {
  __shared__ CodesScratch rooms[kMaskedWarps];
  __shared__ float table[16];
  fill_table(weight.decoding, table);
  __syncthreads();
  const std::int64_t columns = weight.matrix.columns;
  for_each_row(weight.matrix.rows, [&](std::int64_t row) {
    for_each_kept<kSplit>(weight, table, rooms[threadIdx.x / kWarp], row,
                          [&](int at, int byte, const float (&values)[kUnit], float scale) {
                            const std::int64_t column = std::int64_t{at} * kUnit;
                            if (column >= columns) return;
                            T kept[kUnit];
#pragma unroll
                            for (int i = 0; i < kUnit; ++i) {
                              store_rounded(kept + i, byte >> i & 1 ? values[i] * scale : 0.0f);
                            }
                            write_columns(dense + row * columns + column, columns - column, vectors,
                                          kept);
                          });
  });
}

// Codes less their zero points, as tiles take them: what is no number of 16 bits becomes NaN.
template <class T>
struct CodesOfTiles {
  using Scratch = CodesScratch;

  KeptWeight weight;

  // Whether that is rare, and no group ends within 32 columns.
  bool suits() const {
    for (const float number : weight.decoding.table) {
      if ((float_bits(number) & 0xffff) != 0) return false;
    }
    return !weight.grouped || weight.group.divisor() % 32 == 0;
  }

  __host__ __device__ std::int64_t rows() const { return weight.matrix.rows; }
  __device__ __forceinline__ std::int64_t columns() const { return weight.matrix.columns; }
  __device__ __forceinline__ bool grouped() const { return weight.grouped; }
  __device__ __forceinline__ float scale(std::int64_t row, std::int64_t column) const {
    if (row >= rows()) return 0;
    const CodesMatrixOnGpu& matrix = weight.matrix;
    return matrix.scale_at(matrix.parameters(row, weight.group.quotient(column)));
  }
  __device__ __forceinline__ float scaled(std::int64_t row, float sum) const {
    return weight.grouped ? sum : sum * weight.matrix.scale_at(weight.matrix.parameters(row, 0));
  }
  __device__ __forceinline__ void fill(float* table) const { fill_table(weight.decoding, table); }

  template <class Visit, class Done>
  __device__ __forceinline__ void for_each_eight(std::int64_t row, const float* table,
                                                 Scratch& scratch, Visit visit, Done done) const {
    for_each_kept<false>(
        weight, table, scratch, row,
        [&](int at, int byte, const float (&values)[kUnit], float) {
          Eight<T> columns = {};
#pragma unroll
          for (int i = 0; i < kUnit; i += 2) {
            const float even = byte >> i & 1 ? values[i] : 0;
            const float odd = byte >> i & 2 ? values[i + 1] : 0;
            columns.word[i / 2] = exact_pair(even, odd);
          }
          visit(at, columns);
        },
        done);
  }
  __device__ __forceinline__ void multiply_row(const LinearRows& one, const float* table,
                                               Scratch& scratch, std::int64_t row, float (&sum)[1],
                                               bool vectors) const {
    const auto whole = vectors ? static_cast<int>(columns() / kUnit) : 0;
    for_each_kept<false>(weight, table, scratch, row,
                         [&](int at, int byte, const float (&values)[kUnit], float factor) {
                           if (byte == 0) return;
                           multiply_add<T>(one, columns(), at < whole, at, byte, values, factor,
                                           sum);
                         });
  }

 private:
  __device__ __forceinline__ std::uint32_t exact_pair(float even, float odd) const {
    std::uint32_t pair = narrowed_pair<T>(even, odd);
    if (weight.matrix.zero_point == nullptr) return pair;
    const T low = {static_cast<std::uint16_t>(pair)},
            high = {static_cast<std::uint16_t>(pair >> 16)};
    if (widened(low) != even) pair |= 0x7fffu;
    if (widened(high) != odd) pair |= 0x7fff0000u;
    return pair;
  }
};

template <class T>
void multiply(const PackedCodesArgs& args, const Launch& on) {
  const KeptWeight weight(args.weight);
  if constexpr (sizeof(T) == 2) {
    const CodesOfTiles<T> tiles = {weight};
    if (args.rows >= kMinTileRows && tiles.suits()) return multiply_tiles<T>(args, tiles, on);
  }
  const bool vectors = rows_are_vectors(args.x, args.rows > 1 ? args.x_stride : 0, args.dtype);
  const int whole = vectors ? static_cast<int>(args.weight.columns() / kUnit) : 0;
  const auto with = [&](auto kernel) {
    launch(on, kernel, row_blocks(args.weight.rows()), kMaskedThreads, LinearRows(args), weight,
           whole);
  };
  constexpr auto kMaxRows = static_cast<int>(kMaxBitmapRows);
  if (weight.split) return with(kept_codes_kernel<T, kMaxRows, true>);
  if (args.rows <= 1) return with(kept_codes_kernel<T, 1, false>);
  if (args.rows <= 2) return with(kept_codes_kernel<T, 2, false>);
  if (args.rows <= 4) return with(kept_codes_kernel<T, 4, false>);
  if (args.rows <= 8) return with(kept_codes_kernel<T, 8, false>);
  with(kept_codes_kernel<T, kMaxRows, false>);
}

}  // namespace

void multiply_kept(const PackedCodesArgs& args, const Launch& on) {
  by_narrow_dtype(args.dtype, [&]<class T>() { multiply<T>(args, on); });
}

}  // namespace strop::linear::cuda

namespace strop::linear {

void run(const KeptCodesUnpackArgs& args, const Launch& on) {
  const std::int64_t rows = args.weight.rows(), columns = args.weight.columns();
  if (rows * columns == 0) return;
  const bool vectors = columns % 8 == 0 && cuda::rows_are_vectors(args.dense, columns, args.dtype);
  const cuda::KeptWeight weight(args.weight);
  by_narrow_dtype(args.dtype, [&]<class T>() {
    const auto with = [&](auto kernel) {
      cuda::launch(on, kernel, cuda::row_blocks(rows), cuda::kMaskedThreads, weight,
                   static_cast<T*>(args.dense), vectors);
    };
    if (weight.split) return with(cuda::unpack_kept_kernel<T, true>);
    with(cuda::unpack_kept_kernel<T, false>);
  });
}

}  // namespace strop::linear
