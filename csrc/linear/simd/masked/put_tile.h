#pragma once

// What becomes of a tile's sums, whose vectors are rows of x. Compiled once per instruction set.

#include "linear/kernels.h"
#include "linear/simd/activation.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Elements. Rows of x and y are walked side by side, more of them than a processor's prefetcher
// follows: a sixth of the time, where they are far larger than the caches.
inline constexpr std::int64_t kAheadInRow = 4 * kLanes;

// Of a tile under kept columns: rows of x, whose sums fit the registers, or vectors of them.
#if defined(__AVX512F__)
inline constexpr int kColumnRows = 8, kColumnRegisters = 3;
#elif defined(__AVX2__)
inline constexpr int kColumnRows = 6, kColumnRegisters = 0;
#elif defined(STROP_NEON)
inline constexpr int kColumnRows = 4, kColumnRegisters = 0;
#else
inline constexpr int kColumnRows = 2, kColumnRegisters = 0;
#endif

// Rows of the weight from `first` on, which are columns of y: so many, where there are as many.
struct RowsOfWeight {
  std::int64_t first;
  std::int64_t most;
};

// The sums of rows of the weight, tile.registers vectors of each.
template <class T>
void put_tile(const MaskedLinearArgs& args, const PanelTile& tile, const RowsOfWeight& of,
              const float* sums) {
  const std::int64_t column = of.first, rows = args.header().rows - column;
  const std::int64_t count = rows < of.most ? rows : of.most;
  const int width = tile.registers * kLanes;
  auto* const y = static_cast<T*>(args.y) + tile.first * args.y_stride + column;
  const auto* const bias = static_cast<const float*>(args.bias);
  for (std::int64_t n = 0; n < count; n += kLanes) {
    const std::int64_t left = count - n < kLanes ? count - n : kLanes;
    Vec add(0.0f);
    if (bias != nullptr) {
      const float* const from = bias + column + n;
      add = left == kLanes ? load(from) : load_first(from, left);
    }
    for (int j = 0; j < tile.rows; j += kLanes) {
      F32 v[kLanes];
      for (int i = 0; i < kLanes; ++i) v[i] = load_unaligned<F32>(sums + (n + i) * width + j);
      transpose(v);
      const int lanes = tile.rows - j < kLanes ? tile.rows - j : kLanes;
      for (int lane = 0; lane < lanes; ++lane) {
        const Vec result = activated(Vec::wrap(v[lane]) + add, args.activation);
        T* const to = y + (j + lane) * args.y_stride + n;
        prefetch_to_write(to + kAheadInRow);
        left == kLanes ? store<false>(to, result) : store_first(to, result, left);
      }
    }
  }
}

}  // namespace strop::linear::simd::STROP_ISA
