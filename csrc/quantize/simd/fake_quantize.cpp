// The kernels of fake_quantize, and the table of the family's, compiled once per instruction set
// (STROP_ISA).

#include "quantize/simd/rows.h"
#include "quantize/simd/table.h"
#include "quantize/simd/tiles.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T>
struct alignas(64) Scratch : TileScratch<T> {
  T output[kChunk];
  std::uint8_t bits[kStaticTile / 8];
  std::uint8_t strided_bits[kChunk / 8];
};

template <class T>
const RowKernels<T>& rows_of(const QuantizeRule& rule) {
  switch (rule.grid) {
    case Grid::kFloat:
      return float_rows<T>(rule.rounding);
    case Grid::kNf4:
      return nf4_rows<T>();
    default:
      return integer_rows<T>(rule);
  }
}

// What was put together in scratch to where it belongs, `to` and bit `at`, step by step.
template <class T>
void scatter(const RowRun<T>& run, T* to, std::int64_t step, std::uint8_t* mask, std::int64_t at) {
  for (std::int64_t i = 0; i < run.count; ++i) to[i * step] = run.output[i];
  if (mask == nullptr) return;
  for (std::int64_t i = 0; i < run.count; ++i, at += step) {
    if (run.bits.mask[i / 8] >> i % 8 & 1) add_bits(mask + at / 8, 1u << at % 8);
  }
}

template <class T>
void quantize_tile(const QuantizeTask& task, QuantizeTile tile, const TileNeeds& needs,
                   Scratch<T>& scratch) {
  const FakeQuantizeArgs& args = task.args;
  // By the formula as it stands, element by element. (Without bounds, rows of blocks saturate.)
  const bool saturates = needs.saturation && !args.rule.unbounded_at_both_ends();
  const bool exact = task.exact || needs.formula || saturates;
  const QuantizeDim& inner = task.inner();
  const RowKernels<T>& kernels = rows_of<T>(args.rule);
  const auto by_element =
      args.zero_point_is_floating() ? kernels.elements_floating_zero : kernels.elements;
  const auto by_block = args.mask == nullptr ? kernels.blocks : kernels.blocks_and_mask;
  const bool random = args.rule.rounding == Rounding::kStochastic;
  const bool plain = inner.input == 1 && inner.output == 1 && !random;
  const std::int64_t chunk = exact ? kMaxTileBlocks : plain ? tile.columns : kChunk;
  std::int64_t expanded = -1;  // the column that scratch.expanded is of
  for (std::int64_t row = 0; row < tile.rows; ++row, tile.next_row(args)) {
    for_each_run(task, tile, chunk, scratch, [&](RowRun<T> run, std::int64_t column) {
      run.random = random_of(args, tile, column, run.count, scratch.random);
      const std::int64_t at = tile.output + column * inner.output;
      T* const output = static_cast<T*>(args.output) + at;
      run.output = output;
      run.stream = task.stream;
      run.saturates = needs.saturation;
      run.bits = {args.mask, at, scratch.bits};
      if (inner.output != 1) {
        run.output = scratch.output;
        run.stream = false;
        if (args.mask != nullptr) run.bits = {scratch.strided_bits, 0, scratch.bits};
        for (std::uint8_t& byte : scratch.strided_bits) byte = 0;
      }
      if (!exact) {
        by_block(run, scratch.params, args.rule);
      } else {
        if (expanded != column)
          expand_params(scratch.params, run.steps, run.count, scratch.expanded);
        expanded = column;
        by_element(run, scratch.expanded, args.rule);
      }
      if (inner.output != 1) scatter(run, output, inner.output, args.mask, at);
    });
  }
}

template <class T>
void fake_quantize_tiles(const QuantizeTask& task, std::int64_t begin, std::int64_t end) {
  Scratch<T> scratch;
  for (std::int64_t number = begin; number < end; ++number) {
    const QuantizeTile tile = tile_at(task, number);
    const TileNeeds needs = tile_params(task, tile, scratch);
    quantize_tile(task, tile, needs, scratch);
  }
  if (task.stream) stream_fence();
}

template <class T>
void extremes_of_tiles(const QuantizeTask& task, std::int64_t begin, std::int64_t end,
                       std::int32_t* min, std::int32_t* max) {
  TileScratch<T> scratch;
  const TileExtremes& found = scratch.extremes;
  const std::int64_t row_of_blocks = task.inner().blocks();
  for (std::int64_t number = begin; number < end; ++number) {
    const QuantizeTile tile = tile_at(task, number);
    find_extremes(task, tile, scratch);
    const std::int64_t first = tile.slab * row_of_blocks + tile.first_block;
    for (std::int64_t i = 0; i < tile.blocks; ++i) {
      if (found.min[i] < min[first + i]) min[first + i] = found.min[i];
      if (found.max[i] > max[first + i]) max[first + i] = found.max[i];
    }
  }
}

void fake_quantize(const QuantizeTask& task, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.args.dtype, [&]<class T>() { fake_quantize_tiles<T>(task, begin, end); });
}

void extremes(const QuantizeTask& task, std::int64_t begin, std::int64_t end, std::int32_t* min,
              std::int32_t* max) {
  by_narrow_dtype(task.args.dtype,
                  [&]<class T>() { extremes_of_tiles<T>(task, begin, end, min, max); });
}

}  // namespace

extern const Kernels kernels;
const Kernels kernels = {.fake_quantize = fake_quantize,
                         .extremes = extremes,
                         .quantize = quantize_codes,
                         .dequantize = dequantize,
                         .pack_bits = pack_bits,
                         .unpack_bits = unpack_bits,
                         .masked_gradient = masked_gradient,
                         .learned_gradient = learned_gradient};

}  // namespace strop::quantize::simd::STROP_ISA
