#pragma once

#include "augment/kernels.h"
#include "augment/simd/interleave.h"

// Rows that are copied: flips, shifts by whole pixels, no warp at all.

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// One line of a copy: input pixel = step * output pixel + start, step 1 or -1.
struct CopyLine {
  std::int64_t step;
  std::int64_t start;

  STROP_MEMBER std::int64_t at(std::int64_t i) const { return step * i + start; }
};

STROP_INLINE CopyLine copy_line(std::int64_t step, std::int64_t start) {
  return {step < 0 ? -1 : 1, start >> 32};
}

// The index that is read; -1: fill.
STROP_INLINE std::int64_t index_within(FillMode mode, std::int64_t index, std::int64_t pixels) {
  const std::int64_t p = index * kOnePixel;
  if (mode == FillMode::kHardConstant && !inside(p, pixels)) return -1;
  const std::int64_t tap = position_within(mode, p, pixels) >> kPositionBits;
  return tap < pixels ? tap : -1;
}

// Columns of a tile's row that lie within the image.
STROP_INLINE Columns columns_inside(const CopyLine& x, const OutTile& out, std::int64_t pixels) {
  const auto width = static_cast<int>(out.columns());
  const std::int64_t first = x.at(out.column);
  std::int64_t begin = x.step > 0 ? -first : first - (pixels - 1);
  std::int64_t end = x.step > 0 ? pixels - first : first + 1;
  begin = begin < 0 ? 0 : begin > width ? width : begin;
  end = end < begin ? begin : end > width ? width : end;
  return {static_cast<int>(begin), static_cast<int>(end)};
}

template <class T>
STROP_INLINE void set_elements(T* to, int count, T element) {
  for (int i = 0; i < count; ++i) to[i] = element;
}

// From the last to the first; `from` is the first that is read.
template <class T>
STROP_INLINE void copy_backwards(const T* from, int count, T* to) {
  int i = 0;
  if constexpr (sizeof(T) == 1) {
    for (; i + 16 <= count; i += 16) {
      const B16 v = load_unaligned<B16>(from - i - 15);
      store_unaligned(to + i, __builtin_shufflevector(v, v, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5,
                                                      4, 3, 2, 1, 0));
    }
  }
  for (; i < count; ++i) to[i] = from[-i];
}

// Asks for what follows a row that is read, a few rows ahead.
inline constexpr std::int64_t kPrefetchRows = 4096;  // bytes
template <class T>
STROP_INLINE void prefetch_after(const T* row, int count) {
  const auto* const from = reinterpret_cast<const std::uint8_t*>(row) + kPrefetchRows;
  const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t i = 0; i < bytes; i += 64) prefetch(from + i);
}

// Elements one after the other, or each `step` of them.
template <class T>
STROP_INLINE void copy_elements(const T* from, std::int64_t step, int count, T* to) {
  if (step == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(T));
  } else if (step == -1) {
    copy_backwards(from, count, to);
  } else if (step == 3) {
    copy_each_third(from, count, to);
  } else if (step == -3) {  // turned over where they end up
    copy_each_third(from - 3 * (count - 1), count, to);
    for (int i = 0; i < count / 2; ++i) {
      const T kept = to[i];
      to[i] = to[count - 1 - i];
      to[count - 1 - i] = kept;
    }
  } else {
    for (int i = 0; i < count; ++i) to[i] = from[i * step];
  }
}

}  // namespace strop::augment::simd::STROP_ISA
