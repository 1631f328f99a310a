// One row of x by strips of four rows, whose elements of x are gathered one by one; compiled once
// per instruction set (STROP_ISA).

#include "linear/simd/masked/one_row.h"

#include "core/simd/unroll.h"

namespace strop::linear::simd::STROP_ISA {

void multiply_one(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end);

namespace {

STROP_INLINE float at_column(const float* x, std::uint32_t columns, int i) {
  return x[columns >> 8 * i & 0xff];
}

STROP_INLINE F32x4 at_columns(const float* x, std::uint32_t columns) {
  return F32x4{at_column(x, columns, 0), at_column(x, columns, 1), at_column(x, columns, 2),
               at_column(x, columns, 3)};
}

// Four weights of a record, and after them.
template <class V>
STROP_INLINE F32x4 weights(const std::uint8_t* record, int fours) {
  return four(reinterpret_cast<const V*>(record + kRecordColumns) + 4 * fours);
}

#if defined(__AVX512F__)
// Sums of a strip's own nonzeros, four records at a time: 16 of them, whose elements of x are
// gathered. Lane 4 r + i is row i of record r.
template <class V>
class GatheredRecords {
 public:
  STROP_MEMBER void add(const std::uint8_t* record, const float* panel, std::uint32_t records) {
    const auto there = static_cast<__mmask16>(records < 4 ? (1u << 4 * records) - 1 : 0xffff);
    const Words words(record, records);
    const __m512i fours = _mm512_srlv_epi32(words.at(kColumns), byte_of_lane());
    const __m512i columns = _mm512_and_si512(fours, _mm512_set1_epi32(0xff));
    const __m512 x = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), there, columns, panel, 4);
    sum_[next_] = _mm512_fmadd_ps(weights(words), x, sum_[next_]);
    next_ ^= 1;
  }
  STROP_MEMBER F32x4 total() const {
    const __m512 all = sum_[0] + sum_[1];
    const __m256 halves = _mm512_castps512_ps256(all) + upper_half(all);
    return bit_cast<F32x4>(_mm256_castps256_ps128(halves) + _mm256_extractf128_ps(halves, 1));
  }

 private:
  static constexpr int kWords = own_bytes(sizeof(V)) / 4;  // 32 bits each, of a record
  enum Part { kColumns, kWeights };

  // Up to four records; none is read beyond the last.
  struct Words {
    STROP_MEMBER Words(const std::uint8_t* record, std::uint32_t records) {
      const std::uint32_t count = (records < 4 ? records : 4) * kWords;
      const auto mask = (std::uint64_t{1} << count) - 1;
      low = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask), record);
      high = _mm512_setzero_si512();
      if constexpr (kWords > 4) {
        high = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(mask >> 16), record + 64);
      }
    }
    // The word of each lane.
    STROP_MEMBER __m512i at(Part part) const {
      const __m512i index = places(part);
      if constexpr (kWords <= 4) return _mm512_permutexvar_epi32(index, low);
      return _mm512_permutex2var_epi32(low, index, high);
    }
    __m512i low, high;
  };

  static STROP_MEMBER __m512i places(Part part) {
    alignas(64) std::int32_t place[16];
    for (int lane = 0; lane < 16; ++lane) {
      const int i = lane % 4;
      const int within = part == kColumns ? 0 : 1 + (sizeof(V) == 2 ? i / 2 : i);
      place[lane] = lane / 4 * kWords + within;
    }
    return _mm512_load_si512(place);
  }
  // How far a lane's byte of a word is from the lowest, and its 16 bits.
  static STROP_MEMBER __m512i byte_of_lane() {
    return _mm512_set_epi32(24, 16, 8, 0, 24, 16, 8, 0, 24, 16, 8, 0, 24, 16, 8, 0);
  }
  static STROP_MEMBER __m512i half() {
    return _mm512_set_epi32(16, 0, 16, 0, 16, 0, 16, 0, 16, 0, 16, 0, 16, 0, 16, 0);
  }
  static STROP_MEMBER __m512 weights(const Words& words) {
    const __m512i found = words.at(kWeights);
    if constexpr (sizeof(V) == 4) return _mm512_castsi512_ps(found);
    const __m512i low = _mm512_srlv_epi32(found, half());
    if constexpr (dtype_of<V> == DType::kBFloat16) {
      return _mm512_castsi512_ps(_mm512_slli_epi32(low, 16));
    }
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(low));
  }
  static STROP_MEMBER __m256 upper_half(__m512 v) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
  }

  __m512 sum_[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  int next_ = 0;
};

// The sums of `count` records. `record` moves on.
template <class V>
STROP_INLINE F32x4 own_sums(const std::uint8_t*& record, const float* panel, std::uint32_t count) {
  GatheredRecords<V> sums;
  for (std::uint32_t i = 0; i < count; i += 4, record += 4 * own_bytes(sizeof(V))) {
    prefetch(record + kRowAhead);
    prefetch(record + kRowAhead + 64);
    sums.add(record, panel, count - i);
  }
  record -= (4 - count % 4) % 4 * own_bytes(sizeof(V));
  return sums.total();
}
#else
template <class V>
STROP_INLINE F32x4 own_sums(const std::uint8_t*& record, const float* panel, std::uint32_t count) {
  constexpr std::int64_t kOwn = own_bytes(sizeof(V));
  F32x4 sum[2] = {};  // of every other record: one would wait for itself
  std::uint32_t i = 0;
  for (; i + 2 <= count; i += 2, record += 2 * kOwn) {
    prefetch(record + kRowAhead);
    const std::uint8_t* const next = record + kOwn;
    sum[0] += weights<V>(record, 0) * at_columns(panel, load_unaligned<std::uint32_t>(record));
    sum[1] += weights<V>(next, 0) * at_columns(panel, load_unaligned<std::uint32_t>(next));
  }
  if (i < count) {
    sum[0] += weights<V>(record, 0) * at_columns(panel, load_unaligned<std::uint32_t>(record));
    record += kOwn;
  }
  return sum[0] + sum[1];
}
#endif

template <class V>
void multiply_block(const std::uint8_t* layout, const StripBlock& block, const float* panel,
                    float* sums, bool first) {
  constexpr std::int64_t kShared = shared_bytes(sizeof(V), 4);
  const auto* record = layout + block.records;
  const auto* rows = reinterpret_cast<const std::uint16_t*>(layout + block.rows);
  const auto* const runs = reinterpret_cast<const StripRun*>(layout + block.runs);
  for (std::int64_t run = 0; run < block.run_count; ++run) {
    const StripRun counts = runs[run];
    for (std::uint32_t strip = 0; strip < counts.strips; ++strip, rows += 4) {
      F32x4 sum[2] = {};
      for (std::uint32_t i = 0; i < counts.shared; ++i, record += kShared) {
        const auto columns = load_unaligned<std::uint32_t>(record);
        unrolled<4>([&](auto j) STROP_UNROLLED {
          sum[j % 2] += weights<V>(record, j) * at_column(panel, columns, j);
        });
      }
      const F32x4 all = (sum[0] + sum[1]) + own_sums<V>(record, panel, counts.own);
      for (int row = 0; row < 4; ++row) sums[rows[row]] = (first ? 0 : sums[rows[row]]) + all[row];
    }
  }
}

template <class V>
void multiply_one_of(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end) {
  const LayoutHeader& header = task.args.header();
  const auto* const layout = static_cast<const std::uint8_t*>(task.args.layout);
  const std::int64_t column_blocks = header.column_blocks();
  for (std::int64_t row_block = begin; row_block < end; ++row_block) {
    const StripBlock* const blocks = task.blocks() + row_block * column_blocks;
    for (std::int64_t i = 0; i < column_blocks; ++i) {
      const float* const panel = task.panels + i * (header.block_columns + 1);
      multiply_block<V>(layout, blocks[i], panel, sums, i == 0);
    }
    const std::int64_t column = row_block * kBlockRows, left = header.rows - column;
    by_narrow_dtype(task.args.dtype, [&]<class T>() {
      put_row(task.args, sums, column, left < kBlockRows ? left : kBlockRows,
              static_cast<T*>(task.args.y));
    });
  }
}

}  // namespace

void multiply_one(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.args.header().values(),
                  [&]<class V>() { multiply_one_of<V>(task, sums, begin, end); });
}

}  // namespace strop::linear::simd::STROP_ISA
