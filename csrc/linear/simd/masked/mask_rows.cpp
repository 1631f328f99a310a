// A few rows of x by a mask and the values behind it, compiled once per instruction set
// (STROP_ISA). See Note [Rows of bits on a CPU].

#include <algorithm>

#include "linear/simd/masked/mask_words.h"
#include "linear/simd/masked/one_row.h"

namespace strop::linear::simd::STROP_ISA {

void multiply_mask(const BitmapLinearArgs& args, float* scratch, std::int64_t begin,
                   std::int64_t end);

namespace {

constexpr std::int64_t kNearby = 128;  // words of x, of all rows, that a first cache holds

// A row of x as floats, `apart` from one word to the next, with zeros to the end of its last word.
// Returns whether all are finite.
template <class T>
bool widen_row(const T* row, std::int64_t count, std::int64_t apart, float* to) {
  Vec none(0.0f);  // what v - v is, unless v is Inf or NaN
  for (std::int64_t first = 0; first < count; first += kWord, to += apart) {
    for (std::int64_t k = 0; k < kWord; k += kLanes) {
      const std::int64_t left = count - first - k;
      Vec v(0.0f);
      if (left > 0) v = left >= kLanes ? load(row + first + k) : load_first(row + first + k, left);
      none = none + (v - v);
      store<false>(to + k, v);
    }
  }
  return lane_bits(eq(none, Vec(0.0f))) == (1u << kLanes) - 1;
}

// kLanes rows of the weight or fewer, and rows of x, word by word side by side.
struct Chunk {
  const BitmapMatrix& weight;
  std::int64_t first;  // row of the weight
  int rows;
  const void* values;  // of the first
  const float* x;
};

// A chunk's products, [kRows][kLanes].
template <bool kBoth, int kRows, class V>
void multiply_chunk(const Chunk& chunk, float* products) {
  const BitmapMatrix& weight = chunk.weight;
  const std::int64_t row_bytes = weight.row_bytes(), row_words = (row_bytes + 7) / 8;
  const std::int64_t step = row_words * kRows <= kNearby ? row_words : kNearby / kRows;
  const V* at[kLanes + 1];
  for (int r = 0; r <= chunk.rows; ++r) {
    at[r] = static_cast<const V*>(chunk.values) + weight.starts[chunk.first + r] -
            weight.starts[chunk.first];
  }
  F32 sums[kLanes][kRows] = {};
  for (std::int64_t word = 0; word < row_words; word += step) {
    const bool all = step == row_words;
    const std::int64_t words = row_words - word < step ? row_words - word : step;
    for (int r = 0; r < chunk.rows; ++r) {
      const auto next =
          reinterpret_cast<std::intptr_t>(at[r + 1]) - reinterpret_cast<std::intptr_t>(at[r]);
      const RowBits bits = {.from = weight.bits + (chunk.first + r) * row_bytes + 8 * word,
                            .bytes = row_bytes - 8 * word,
                            .words = words,
                            .bits_ahead = all ? kRowAhead / 8 : row_bytes,
                            .values_ahead = all ? kRowAhead : next};
      at[r] = add_products<kBoth, kRows>(bits, at[r], chunk.x + word * kWord * kRows, sums[r]);
    }
  }
  for (int m = 0; m < kRows; ++m) {
    F32 lanes[kLanes];
    for (int r = 0; r < kLanes; ++r) lanes[r] = sums[r][m];
    transpose(lanes);
    F32 sum = {};  // no -0: the sign of a 0 that a lane without a weight adds is x's
    for (int lane = 0; lane < kLanes; ++lane) sum = sum + lanes[lane];
    store_unaligned(products + m * kLanes, sum);
  }
}

using MultiplyChunk = void (*)(const Chunk&, float*);

template <class V, int... kRows>
MultiplyChunk chunk_kernel(int rows, bool finite, std::integer_sequence<int, kRows...>) {
  static constexpr MultiplyChunk kernels[][2] = {
      {multiply_chunk<true, kRows + 1, V>, multiply_chunk<false, kRows + 1, V>}...};
  return kernels[rows - 1][finite];
}

MultiplyChunk chunk_kernel(DType values, int rows, bool finite) {
  return by_narrow_dtype(values, [&]<class V>() {
    return chunk_kernel<V>(rows, finite, std::make_integer_sequence<int, kMaskRows>{});
  });
}

// Values from which on a vector would run over the end of all, with room behind them.
class LastValues {
 public:
  LastValues(const BitmapMatrix& weight, std::uint8_t* copy) : weight_(weight), copy_(copy) {
    const std::int64_t* const ends = weight.starts + 1;
    const std::int64_t far = weight.count - kBitmapSlack / item();
    first_row_ = std::upper_bound(ends, ends + weight.rows, far) - ends;
  }

  // Copies what rows before `end` need.
  void copy(std::int64_t end) const {
    if (first_row_ >= end) return;
    const std::int64_t from = weight_.starts[first_row_] * item();
    const auto bytes = static_cast<std::size_t>(weight_.count * item() - from);
    if (bytes > 0) std::memcpy(copy_, all() + from, bytes);
  }
  // Rows from `row` on whose values lie side by side.
  std::int64_t rows(std::int64_t row, std::int64_t end) const {
    return (row < first_row_ && first_row_ < end ? first_row_ : end) - row;
  }
  const void* of(std::int64_t row) const {
    if (row < first_row_) return all() + weight_.starts[row] * item();
    return copy_ + (weight_.starts[row] - weight_.starts[first_row_]) * item();
  }

 private:
  std::int64_t item() const { return dtype_size(weight_.dtype); }
  const std::uint8_t* all() const { return static_cast<const std::uint8_t*>(weight_.values); }

  const BitmapMatrix& weight_;
  std::uint8_t* copy_;
  std::int64_t first_row_;
};

// Rows of x, from `first` on.
struct FewRows {
  std::int64_t first;
  int count;
  float* x;  // scratch
};

template <class T>
void multiply_few(const BitmapLinearArgs& args, const FewRows& rows, std::int64_t begin,
                  std::int64_t end) {
  const BitmapMatrix& weight = args.weight;
  const auto row_at = [&](int m) { return rows.first + m; };
  bool finite = true;
  for (int m = 0; m < rows.count; ++m) {
    const T* const x = static_cast<const T*>(args.x) + row_at(m) * args.x_stride;
    finite &= widen_row(x, weight.columns, kWord * rows.count, rows.x + kWord * m);
  }
  const std::int64_t words = (weight.columns + kWord - 1) / kWord * rows.count;
  const LastValues values(weight, reinterpret_cast<std::uint8_t*>(rows.x + kWord * words));
  values.copy(end);
  const auto multiply = chunk_kernel(weight.dtype, rows.count, finite);
  float products[kMaskRows * kLanes];
  for (std::int64_t row = begin; row < end;) {
    const auto count = static_cast<int>(std::min<std::int64_t>(values.rows(row, end), kLanes));
    multiply({weight, row, count, values.of(row), rows.x}, products);
    for (int m = 0; m < rows.count; ++m) {
      put_row(args, products + m * kLanes, row, count,
              static_cast<T*>(args.y) + row_at(m) * args.y_stride);
    }
    row += count;
  }
}

}  // namespace

void multiply_mask(const BitmapLinearArgs& args, float* scratch, std::int64_t begin,
                   std::int64_t end) {
  for (std::int64_t row = 0; row < args.rows;) {
    const std::int64_t left = args.rows - row, turns = (left + kMaskRows - 1) / kMaskRows;
    const FewRows rows = {row, static_cast<int>((left + turns - 1) / turns), scratch};
    by_narrow_dtype(args.dtype, [&]<class T>() { multiply_few<T>(args, rows, begin, end); });
    row += rows.count;
  }
}

}  // namespace strop::linear::simd::STROP_ISA
