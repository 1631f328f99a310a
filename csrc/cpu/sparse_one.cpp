// One row of x, compiled once per instruction set (STROP_ISA): by strips of four rows, whose
// elements of x are gathered one by one, or by the mask and the values behind it.

#include "cpu/activation.h"
#include "cpu/sparse.h"
#include "cpu/unroll.h"

namespace strop::cpu::STROP_ISA {

void multiply_one(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end);
void multiply_mask(const SparseLinearArgs& args, float* words, std::int64_t begin,
                   std::int64_t end);

namespace {

constexpr std::int64_t kAhead = 2048;

template <class T>
STROP_INLINE T read(const std::uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

STROP_INLINE float at_offset(const float* panel, std::uint64_t offsets, int i) {
  return read<float>(reinterpret_cast<const std::uint8_t*>(panel) + (offsets >> 16 * i & 0xffff));
}

STROP_INLINE F32x4 at_offsets(const float* panel, std::uint64_t offsets) {
  return F32x4{at_offset(panel, offsets, 0), at_offset(panel, offsets, 1),
               at_offset(panel, offsets, 2), at_offset(panel, offsets, 3)};
}

void multiply_block(const std::uint8_t* layout, const StripBlock& block, const float* panel,
                    float* sums, bool first) {
  constexpr std::int64_t kOwn = 8 + 16, kShared = 8 + 64;
  const auto* record = layout + block.records;
  const auto* rows = reinterpret_cast<const std::uint16_t*>(layout + block.rows);
  const auto* const runs = reinterpret_cast<const StripRun*>(layout + block.runs);
  for (std::int64_t run = 0; run < block.run_count; ++run) {
    const StripRun counts = runs[run];
    for (std::uint32_t strip = 0; strip < counts.strips; ++strip, rows += 4) {
      F32x4 sum[2] = {};  // of every other record: one would wait for itself
      for (std::uint32_t i = 0; i < counts.shared; ++i, record += kShared) {
        const auto offsets = read<std::uint64_t>(record);
        unrolled<4>([&](auto j) STROP_UNROLLED {
          sum[j % 2] += read<F32x4>(record + 8 + 16 * j) * at_offset(panel, offsets, j);
        });
      }
      std::uint32_t i = 0;
      for (; i + 2 <= counts.own; i += 2, record += 2 * kOwn) {
        prefetch(record + kAhead);
        sum[0] += read<F32x4>(record + 8) * at_offsets(panel, read<std::uint64_t>(record));
        sum[1] +=
            read<F32x4>(record + kOwn + 8) * at_offsets(panel, read<std::uint64_t>(record + kOwn));
      }
      if (i < counts.own) {
        sum[0] += read<F32x4>(record + 8) * at_offsets(panel, read<std::uint64_t>(record));
        record += kOwn;
      }
      const F32x4 all = sum[0] + sum[1];
      for (int row = 0; row < 4; ++row) sums[rows[row]] = (first ? 0 : sums[rows[row]]) + all[row];
    }
  }
}

// y's columns [column, column + count) of one row.
void put_row(const SparseLinearArgs& args, const float* sums, std::int64_t column,
             std::int64_t count, float* y) {
  const auto* const bias = static_cast<const float*>(args.bias);
  for (std::int64_t n = 0; n < count; n += kLanes) {
    const std::int64_t left = count - n;
    const bool whole = left >= kLanes;
    Vec v = whole ? load(sums + n) : load_first(sums + n, left);
    if (bias != nullptr) {
      v = v + (whole ? load(bias + column + n) : load_first(bias + column + n, left));
    }
    v = activated(v, args.activation);
    whole ? store<false>(y + column + n, v) : store_first(y + column + n, v, left);
  }
}

// The nonzeros of a row one by one.
STROP_INLINE float plain_product(const std::uint64_t* words, std::int64_t count,
                                 const float* values, const float* x) {
  float sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    for (std::uint64_t word = words[i]; word != 0; word &= word - 1) {
      sum += *values++ * x[64 * i + __builtin_ctzll(word)];
    }
  }
  return sum;
}

#if defined(__AVX512F__)
// The values spread out to the lanes of their columns, 16 at a time.
STROP_INLINE float product(const std::uint64_t* words, std::int64_t count, const float* values,
                           const float* x) {
  __m512 sum[4] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t word = words[i];
    prefetch(values + kAhead / 4);
    unrolled<4>([&](auto part) STROP_UNROLLED {
      const auto lanes = static_cast<__mmask16>(word >> 16 * part);
      const __m512 weights = _mm512_maskz_expandloadu_ps(lanes, values);
      const __m512 at = _mm512_maskz_loadu_ps(lanes, x + 64 * i + 16 * part);
      sum[part] = _mm512_fmadd_ps(weights, at, sum[part]);
      values += __builtin_popcount(lanes);
    });
  }
  return _mm512_reduce_add_ps((sum[0] + sum[1]) + (sum[2] + sum[3]));
}
#elif defined(__AVX2__)
// For a byte of the mask and each of its columns: the place of its value among those of the byte,
// with the sign bit where there is one, so that the same vector moves the values and chooses of x
// (by a blend: a masked load takes a Zen 1 ten cycles).
struct SpreadTable {
  alignas(64) std::int32_t place[256][8];
  constexpr SpreadTable() : place() {
    for (int byte = 0; byte < 256; ++byte) {
      int before = 0;
      for (int bit = 0; bit < 8; ++bit) {
        const bool kept = (byte >> bit & 1) != 0;
        place[byte][bit] = kept ? static_cast<std::int32_t>(0x80000000u + before++) : 0;
      }
    }
  }
};
constexpr SpreadTable kSpread;

STROP_INLINE float product(const std::uint64_t* words, std::int64_t count, const float* values,
                           const float* x) {
  __m256 sum[4] = {};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint64_t word = words[i];
    prefetch(values + kAhead / 4);
    unrolled<8>([&](auto byte) STROP_UNROLLED {
      const auto* const places =
          reinterpret_cast<const __m256i*>(kSpread.place[word >> 8 * byte & 0xff]);
      const __m256i place = _mm256_load_si256(places);
      // (counted from the word's first value: one byte does not wait for another)
      const std::uint64_t before = word & ((std::uint64_t{1} << 8 * byte) - 1);
      const __m256 of_byte = _mm256_loadu_ps(values + __builtin_popcountll(before));
      const __m256 at = _mm256_blendv_ps(
          _mm256_setzero_ps(), _mm256_loadu_ps(x + 64 * i + 8 * byte), _mm256_castsi256_ps(place));
      sum[byte % 4] = _mm256_fmadd_ps(_mm256_permutevar8x32_ps(of_byte, place), at, sum[byte % 4]);
    });
    values += __builtin_popcountll(word);
  }
  const __m256 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  float lanes[8];
  _mm256_storeu_ps(lanes, all);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}
#else
STROP_INLINE float product(const std::uint64_t* words, std::int64_t count, const float* values,
                           const float* x) {
  return plain_product(words, count, values, x);
}
#endif

}  // namespace

void multiply_one(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end) {
  const LayoutHeader& header = task.args.header();
  const auto* const layout = static_cast<const std::uint8_t*>(task.args.layout);
  const std::int64_t column_blocks = header.column_blocks();
  for (std::int64_t row_block = begin; row_block < end; ++row_block) {
    const StripBlock* const blocks = task.blocks() + row_block * column_blocks;
    for (std::int64_t i = 0; i < column_blocks; ++i) {
      const float* const panel = task.panels + i * (header.block_columns + 1) * kOneLanes;
      multiply_block(layout, blocks[i], panel, sums, i == 0);
    }
    const std::int64_t column = row_block * kBlockRows, left = header.rows - column;
    put_row(task.args, sums, column, left < kBlockRows ? left : kBlockRows,
            static_cast<float*>(task.args.y));
  }
}

void multiply_mask(const SparseLinearArgs& args, float* words, std::int64_t begin,
                   std::int64_t end) {
  const LayoutHeader& header = args.header();
  const auto* const layout = static_cast<const std::uint8_t*>(args.layout);
  const auto* const starts = reinterpret_cast<const std::int64_t*>(layout + header.first);
  const auto* const bits = reinterpret_cast<const std::uint64_t*>(layout + header.second);
  const auto* const values = reinterpret_cast<const float*>(layout + header.third);
  const std::int64_t row_words = header.row_words();
  constexpr std::int64_t kRows = 64;
  float sums[kRows];
  for (std::int64_t m = 0; m < args.rows; ++m) {
    float* const x = words;
    std::memcpy(x, static_cast<const float*>(args.x) + m * args.x_stride,
                static_cast<std::size_t>(header.columns) * sizeof(float));
    float* const y = static_cast<float*>(args.y) + m * args.y_stride;
    for (std::int64_t row = begin; row < end; row += kRows) {
      const std::int64_t count = end - row < kRows ? end - row : kRows;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::uint64_t* const of_row = bits + (row + i) * row_words;
        const float* const from = values + starts[row + i];
        // Lanes without a weight hold another's there, and x as 0: 0 times Inf would not be 0.
        sums[i] = header.finite != 0 ? product(of_row, row_words, from, x)
                                     : plain_product(of_row, row_words, from, x);
      }
      put_row(args, sums, row, count, y);
    }
  }
}

}  // namespace strop::cpu::STROP_ISA
