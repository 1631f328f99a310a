// The kernel of dequantize, compiled once per instruction set (STROP_ISA).

#include "formats/simd/bit_packing.h"
#include "quantize/simd/code_rows.h"
#include "quantize/simd/table.h"
#include "quantize/simd/tiles.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T>
struct alignas(64) Scratch {
  TileParams params;
  TileParams expanded;
  std::uint8_t bytes[kCodeRun + kLanes];
  std::uint16_t words[kCodeRun + kLanes];
  T output[kCodeRun];
};

template <class T, class Values>
constexpr ValueRows<T> kRowsOf = {value_blocks<Values, T>, value_elements<Values, T, std::uint8_t>,
                                  value_elements<Values, T, std::uint16_t>};

template <class T>
const ValueRows<T>& rows_of(const FakeQuantizeArgs& args) {
  const QuantizeRule& rule = args.rule;
  switch (rule.grid) {
    case Grid::kFloat:
      return rule.layout.nan != 0 ? kRowsOf<T, FloatValues<true>> : kRowsOf<T, FloatValues<false>>;
    case Grid::kNf4:
      return kRowsOf<T, Nf4Values>;
    default:
      break;
  }
  if (!rule.is_signed) return kRowsOf<T, IntegerValues<false, true>>;
  return args.zero_point != nullptr ? kRowsOf<T, IntegerValues<true, true>>
                                    : kRowsOf<T, IntegerValues<true, false>>;
}

// Scales that are kept as bytes.
TileNeeds read_scale_bytes(const QuantizeTask& task, const QuantizeTile& tile, TileParams& params) {
  const FakeQuantizeArgs& args = task.args;
  const auto* bytes = static_cast<const std::uint8_t*>(args.scale) + tile.scale;
  const std::int64_t step = task.inner().scale;
  const bool powers = args.rule.scales == ScaleKind::kPowerOfTwo;
  const float tensor_scale = powers ? 1.0f : *static_cast<const float*>(args.tensor_scale);
  for (std::int64_t i = 0; i < tile.blocks; ++i) {
    const std::uint8_t byte = bytes[i * step];
    params.scale[i] = powers ? power_from_byte(byte) : tensor_scale * block_scale_from_byte(byte);
    params.inverse[i] = 0.0f;
    params.zero_point[i] = 0.0f;
  }
  const std::int64_t padded = (tile.blocks + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t i = tile.blocks; i < padded; ++i) params.scale[i] = 1.0f;
  return needs_of(args, padded, params);
}

// A run's codes, as bytes or words.
template <class T>
void take_codes(const FakeQuantizeArgs& args, std::int64_t at, std::int64_t count,
                Scratch<T>& scratch) {
  const int bits = args.rule.bits;
  const std::int64_t step = args.dim[args.dims - 1].input;
  const auto* const codes = static_cast<const std::uint8_t*>(args.input);
  if (bits > 8) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::memcpy(scratch.words + i, codes + (at + i * step) / 8, 2);
    }
    return;
  }
  if (step == bits && at % 8 == 0) return unpack_row(codes + at / 8, count, bits, scratch.bytes);
  for (std::int64_t i = 0; i < count; ++i, at += step) {
    const int shift = static_cast<int>(at % 8);
    std::uint32_t word = codes[at / 8];
    if (shift + bits > 8) word |= std::uint32_t{codes[at / 8 + 1]} << 8;
    scratch.bytes[i] = static_cast<std::uint8_t>(word >> shift & ((1u << bits) - 1));
  }
}

template <class T>
void value_tile(const QuantizeTask& task, QuantizeTile tile, bool saturates, Scratch<T>& scratch) {
  const FakeQuantizeArgs& args = task.args;
  const QuantizeDim& inner = task.inner();
  const ValueRows<T>& rows = rows_of<T>(args);
  const bool wide = args.rule.bits > 8;
  const bool by_element = wide || task.narrow || saturates;
  const std::int64_t chunk = by_element ? kMaxTileBlocks : kCodeRun;
  for (std::int64_t row = 0; row < tile.rows; ++row, tile.next_row(args)) {
    for (std::int64_t column = 0; column < tile.columns; column += chunk) {
      const std::int64_t left = tile.columns - column;
      const std::int64_t into = tile.into_block + column;
      T* const output = static_cast<T*>(args.output) + tile.output + column * inner.output;
      const bool dense = inner.output == 1;
      const ValueRun<T> run = {dense ? output : scratch.output,
                               left < chunk ? left : chunk,
                               {inner.block, into / inner.block, into % inner.block},
                               task.stream && dense,
                               saturates};
      take_codes(args, tile.input + column * inner.input, run.count, scratch);
      if (by_element) {
        expand_params(scratch.params, run.steps, run.count, scratch.expanded);
        if (wide) {
          rows.words(run, scratch.words, scratch.expanded, args.rule);
        } else {
          rows.elements(run, scratch.bytes, scratch.expanded, args.rule);
        }
      } else {
        rows.blocks(run, scratch.bytes, scratch.params, args.rule);
      }
      if (dense) continue;
      for (std::int64_t i = 0; i < run.count; ++i) output[i * inner.output] = scratch.output[i];
    }
  }
}

template <class T>
void value_tiles(const QuantizeTask& task, std::int64_t begin, std::int64_t end) {
  Scratch<T> scratch;
  for (std::int64_t number = begin; number < end; ++number) {
    const QuantizeTile tile = tile_at(task, number);
    const TileNeeds needs = task.args.rule.scales == ScaleKind::kAny
                                ? read_params(task, tile, scratch.params)
                                : read_scale_bytes(task, tile, scratch.params);
    value_tile(task, tile, needs.saturation, scratch);
  }
  if (task.stream) stream_fence();
}

}  // namespace

void dequantize(const QuantizeTask& task, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.args.dtype, [&]<class T>() { value_tiles<T>(task, begin, end); });
}

}  // namespace strop::quantize::simd::STROP_ISA
