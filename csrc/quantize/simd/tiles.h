#pragma once

// What the kernels that read elements tile by tile share: parameters from extremes, rows in runs,
// random numbers. Compiled once per instruction set; see Note [Quantize tiles] in
// quantize/kernels.h.

#include "core/simd/random.h"
#include "quantize/simd/extremes.h"
#include "quantize/simd/params.h"
#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Elements at a time where a row has to be gathered, scattered or given random numbers.
inline constexpr std::int64_t kChunk = 2048;

template <class T>
struct alignas(64) TileScratch {
  TileParams params;
  TileParams expanded;
  TileExtremes extremes;
  float random[kChunk];
  T input[kChunk];
};

// The random numbers of a run from a tile's column on; nullptr where none are needed.
inline const float* random_of(const FakeQuantizeArgs& args, const QuantizeTile& tile,
                              std::int64_t column, std::int64_t count, float* scratch) {
  if (args.rule.rounding != Rounding::kStochastic) return nullptr;
  const std::int64_t step = args.dim[args.dims - 1].index;
  fill_random(scratch, args.seed, static_cast<std::uint64_t>(tile.index + column * step),
              static_cast<std::uint64_t>(step), count);
  return scratch;
}

template <bool kSymmetric, class T>
TileNeeds choose_tile(const FakeQuantizeArgs& args, const TileExtremes& extremes,
                      std::int64_t blocks, TileParams& params) {
  Vec tensor_scale(1.0f);
  if (args.tensor_scale != nullptr)
    tensor_scale = Vec(*static_cast<const float*>(args.tensor_scale));
  for (std::int64_t i = 0; i < blocks; i += kLanes) {
    const Vec max = value_from_ordered<kSymmetric, T>(extremes.max + i);
    const Vec min = kSymmetric ? max : value_from_ordered<false, T>(extremes.min + i);
    const QuantizeParams<Vec> chosen = choose_params(min, max, tensor_scale, args.rule);
    store<false>(params.scale + i, chosen.scale);
    store<false>(params.inverse + i, chosen.inverse);
    store<false>(params.zero_point + i, chosen.zero_point);
  }
  return needs_of(args, blocks, params);
}

// Calls function(run, first column) on a row's pieces of at most `chunk` columns, gathered into
// consecutive elements where they are not. The runs have no output yet.
template <class T, class Function>
STROP_INLINE void for_each_run(const QuantizeTask& task, const QuantizeTile& tile,
                               std::int64_t chunk, TileScratch<T>& scratch, Function function) {
  const QuantizeDim& inner = task.inner();
  const T* const row = static_cast<const T*>(task.args.input) + tile.input;
  for (std::int64_t column = 0; column < tile.columns; column += chunk) {
    RowRun<T> run{};
    run.count = tile.columns - column < chunk ? tile.columns - column : chunk;
    run.ahead = task.ahead;
    run.steps = {inner.block, 0, tile.into_block};
    if (column > 0) {
      run.steps.first = (tile.into_block + column) / inner.block;
      run.steps.into = (tile.into_block + column) % inner.block;
    }
    run.input = row + column * inner.input;
    if (inner.input != 1) {
      for (std::int64_t i = 0; i < run.count; ++i) scratch.input[i] = run.input[i * inner.input];
      run.input = scratch.input;
    }
    function(run, column);
  }
}

template <class T>
void find_extremes(const QuantizeTask& task, QuantizeTile tile, TileScratch<T>& scratch) {
  const bool symmetric = task.args.rule.symmetric;
  const auto by_block = symmetric ? extremes_of_blocks<true, T> : extremes_of_blocks<false, T>;
  const auto narrow = symmetric ? extremes_of_narrow<true, T> : extremes_of_narrow<false, T>;
  const auto add = task.narrow ? narrow : by_block;
  const std::int64_t chunk = task.inner().input == 1 ? tile.columns : kChunk;
  const std::int64_t padded = (tile.blocks + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t i = 0; i < padded; ++i) scratch.extremes.min[i] = scratch.extremes.max[i] = 0;
  for (std::int64_t row = 0; row < tile.rows; ++row, tile.next_row(task.args)) {
    for_each_run(task, tile, chunk, scratch,
                 [&](const RowRun<T>& run, std::int64_t) { add(run, scratch.extremes); });
  }
}

// The parameters of a tile's blocks, given or chosen.
template <class T>
TileNeeds tile_params(const QuantizeTask& task, const QuantizeTile& tile, TileScratch<T>& scratch) {
  const FakeQuantizeArgs& args = task.args;
  if (!args.dynamic()) return read_params(task, tile, scratch.params);
  const auto choose = args.rule.symmetric ? choose_tile<true, T> : choose_tile<false, T>;
  find_extremes(task, tile, scratch);
  return choose(args, scratch.extremes, tile.blocks, scratch.params);
}

}  // namespace strop::quantize::simd::STROP_ISA
