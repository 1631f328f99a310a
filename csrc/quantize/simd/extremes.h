#pragma once

// Smallest and largest elements of blocks, in straight runs of memory. Compiled once per
// instruction set. An extreme is held as the integer that orders as the element does: see
// bits_from_ordered in quantize/fake_quantize.h.

#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Of the blocks of a tile. They begin at 0: an asymmetric range includes it, and no |x| is less.
struct alignas(64) TileExtremes {
  std::int32_t min[kMaxTileBlocks];
  std::int32_t max[kMaxTileBlocks];
};

// A whole vector of storage bits: 16-bit elements are compared without widening them.
template <class T>
struct BitsOf {
  using Vector = I16;
};
template <>
struct BitsOf<float> {
  using Vector = I32;
};
template <class T>
using Bits = typename BitsOf<T>::Vector;
template <class T>
inline constexpr std::int64_t kBitLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <bool kSymmetric>
STROP_INLINE I32 ordered(I32 bits) {
  const I32 rest = broadcast(std::int32_t{0x7fffffff});
  return kSymmetric ? bits & rest : bits ^ ((bits >> 31) & rest);
}
template <bool kSymmetric>
STROP_INLINE I16 ordered(I16 bits) {
  const I16 rest = broadcast(std::int16_t{0x7fff});
  return kSymmetric ? bits & rest : bits ^ ((bits >> 15) & rest);
}

// kLanes elements' ordered bits, sign-extended; of the first `count` where that is less, the others
// 0.
template <bool kSymmetric, class T>
STROP_INLINE I32 ordered_words(const T* from, std::int64_t count) {
  T lanes[kLanes] = {};
  if (count < kLanes) {
    std::memcpy(lanes, from, static_cast<std::size_t>(count) * sizeof(T));
    from = lanes;
  }
  if constexpr (sizeof(T) == 4) {
    return ordered<kSymmetric>(load_unaligned<I32>(from));
  } else {
    const I32 bits = bit_cast<I32>(__builtin_convertvector(load_unaligned<U16>(from), U32) << 16);
    return kSymmetric ? (bits >> 16) & broadcast(std::int32_t{0x7fff}) : ordered<false>(bits) >> 16;
  }
}

template <bool kSymmetric, class V>
struct Extreme {
  V min;
  V max;

  __attribute__((always_inline)) void take(V bits) {
    const V key = ordered<kSymmetric>(bits);
    max = larger(max, key);
    if constexpr (!kSymmetric) min = smaller(min, key);
  }
  __attribute__((always_inline)) void join(const Extreme& other) {
    max = larger(max, other.max);
    if constexpr (!kSymmetric) min = smaller(min, other.min);
  }
};

STROP_INLINE I32 larger_words(I32 v) { return v; }
STROP_INLINE I32 smaller_words(I32 v) { return v; }
STROP_INLINE I32 larger_words(I16 v) {
  const I32 pairs = bit_cast<I32>(v);
  return larger(pairs >> 16, bit_cast<I32>(bit_cast<U32>(pairs) << 16) >> 16);
}
STROP_INLINE I32 smaller_words(I16 v) {
  const I32 pairs = bit_cast<I32>(v);
  return smaller(pairs >> 16, bit_cast<I32>(bit_cast<U32>(pairs) << 16) >> 16);
}

// The extremes of a run and of 0.
template <bool kSymmetric, class T>
STROP_INLINE Extreme<kSymmetric, Bits<T>> extreme_of_run(const T* input, std::int64_t count) {
  using V = Bits<T>;
  constexpr std::int64_t kStep = kBitLanes<T>;
  Extreme<kSymmetric, V> one{V{}, V{}}, two{V{}, V{}};  // two chains hide the latency of one
  if (count < kStep) {
    T lanes[kStep] = {};
    std::memcpy(lanes, input, static_cast<std::size_t>(count) * sizeof(T));
    one.take(load_unaligned<V>(lanes));
    return one;
  }
  std::int64_t i = 0;
  for (; i + 2 * kStep <= count; i += 2 * kStep) {
    one.take(load_unaligned<V>(input + i));
    two.take(load_unaligned<V>(input + i + kStep));
  }
  if (i + kStep <= count) one.take(load_unaligned<V>(input + i));
  two.take(load_unaligned<V>(input + count - kStep));  // elements seen twice change nothing
  one.join(two);
  return one;
}

// kLanes whole groups at a time, whose extremes are found side by side. Returns how many elements
// it did.
template <bool kSymmetric, class T>
STROP_INLINE std::int64_t extremes_of_groups(const RowRun<T>& row, TileExtremes& extremes) {
  using V = Bits<T>;
  const std::int64_t block = row.steps.block;
  const T* input = row.input;
  std::int64_t done = 0;
  for (std::int64_t g = row.steps.first; done + kLanes * block <= row.count; g += kLanes) {
    I32 min[kLanes], max[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      if (block == kLanes) {  // of which a vector of 16-bit elements holds two
        max[lane] = min[lane] = ordered_words<kSymmetric>(input, kLanes);
        input += kLanes;
        continue;
      }
      Extreme<kSymmetric, V> one{V{}, V{}};
      for (std::int64_t i = 0; i < block; i += kBitLanes<T>, input += kBitLanes<T>) {
        one.take(load_unaligned<V>(input));
      }
      max[lane] = larger_words(one.max);
      if constexpr (!kSymmetric) min[lane] = smaller_words(one.min);
    }
    std::int32_t* const to_max = extremes.max + g;
    store_unaligned(to_max, larger(load_unaligned<I32>(to_max), largest_of_each(max)));
    if constexpr (!kSymmetric) {
      std::int32_t* const to_min = extremes.min + g;
      store_unaligned(to_min, smaller(load_unaligned<I32>(to_min), smallest_of_each(min)));
    }
    done += kLanes * block;
  }
  return done;
}

template <bool kSymmetric, class T>
void extremes_of_blocks(const RowRun<T>& row, TileExtremes& extremes) {
  const std::int64_t done = pairs_fill(row.steps) || vectors_fill(row.steps)
                                ? extremes_of_groups<kSymmetric>(row, extremes)
                                : 0;
  const T* input = row.input + done;
  std::int64_t block = row.steps.first + done / row.steps.block;
  std::int64_t left = row.count - done;
  std::int64_t count = row.steps.block - row.steps.into;
  for (; left > 0; ++block, left -= count, count = row.steps.block) {
    if (count > left) count = left;
    const auto found = extreme_of_run<kSymmetric>(input, count);
    const std::int32_t max = largest(larger_words(found.max));
    if (max > extremes.max[block]) extremes.max[block] = max;
    if constexpr (!kSymmetric) {
      const std::int32_t min = smallest(smaller_words(found.min));
      if (min < extremes.min[block]) extremes.min[block] = min;
    }
    input += count;
  }
}

// Blocks of a few columns, of which the first may have begun before the row. Such rows are no
// longer than kMaxTileBlocks.
template <bool kSymmetric, class T>
void extremes_of_narrow(const RowRun<T>& row, TileExtremes& extremes) {
  alignas(64) std::int32_t keys[kMaxTileBlocks];
  for (std::int64_t i = 0; i < row.count; i += kLanes) {
    const I32 key = ordered_words<kSymmetric>(row.input + i, row.count - i);
    if (row.steps.block == 1) {  // the arrays hold a whole last vector, whose unused lanes are 0
      store_unaligned(extremes.max + i, larger(load_unaligned<I32>(extremes.max + i), key));
      if constexpr (!kSymmetric) {
        store_unaligned(extremes.min + i, smaller(load_unaligned<I32>(extremes.min + i), key));
      }
    } else {
      store_unaligned(keys + i, key);
    }
  }
  if (row.steps.block == 1) return;
  std::int64_t end = row.steps.block - row.steps.into;
  for (std::int64_t i = 0, block = 0; i < row.count; ++block, end += row.steps.block) {
    std::int32_t min = extremes.min[block], max = extremes.max[block];
    if (end > row.count) end = row.count;
    for (; i < end; ++i) {
      max = keys[i] > max ? keys[i] : max;
      min = keys[i] < min ? keys[i] : min;
    }
    extremes.max[block] = max;
    extremes.min[block] = min;
  }
}

// kLanes values from their ordered bits.
template <bool kSymmetric, class T>
STROP_INLINE Vec value_from_ordered(const std::int32_t* ordered) {
  I32 bits = load_unaligned<I32>(ordered);
  if constexpr (!kSymmetric) {
    const std::int32_t rest = sizeof(T) == 4 ? 0x7fffffff : 0x7fff;
    bits = bits ^ ((bits >> 31) & broadcast(rest));
  }
  if constexpr (dtype_of<T> == DType::kFloat32) {
    return Vec::wrap(bit_cast<F32>(bits));
  } else {
    const U16 half = __builtin_convertvector(bit_cast<U32>(bits), U16);
    return Vec::wrap(dtype_of<T> == DType::kBFloat16 ? from_bfloat16(half) : from_float16(half));
  }
}

}  // namespace strop::quantize::simd::STROP_ISA
