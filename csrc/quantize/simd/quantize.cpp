// The kernels of quantize, compiled once per instruction set (STROP_ISA).

#include "formats/simd/bit_packing.h"
#include "quantize/simd/code_rows.h"
#include "quantize/simd/table.h"
#include "quantize/simd/tiles.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

static_assert(kCodeRun == kChunk);

template <class T>
struct alignas(64) Scratch : TileScratch<T> {
  std::uint8_t bytes[kChunk];
  std::uint16_t words[kChunk + kLanes];
};

template <class T>
const CodeRows<T>& rows_of(const QuantizeRule& rule) {
  switch (rule.grid) {
    case Grid::kFloat:
      return float_code_rows<T>(rule.rounding);
    case Grid::kNf4:
      return nf4_code_rows<T>();
    default:
      return integer_code_rows<T>(rule.rounding);
  }
}

// The scales as they are kept.
template <class T>
void write_scales(const CodeTask& task, const QuantizeTile& tile, const TileScratch<T>& scratch) {
  const FakeQuantizeArgs& args = task.task.args;
  const std::int64_t step = task.task.inner().scale;
  auto* const bytes = static_cast<std::uint8_t*>(task.chosen.scale) + tile.scale;
  if (args.rule.scales == ScaleKind::kPowerOfTwo) {
    for (std::int64_t i = 0; i < tile.blocks; ++i) {
      bytes[i * step] = power_to_byte(scratch.params.scale[i]);
    }
  } else if (args.rule.scales == ScaleKind::kTwoLevels) {
    const float tensor_scale = *static_cast<const float*>(args.tensor_scale);
    float scales[kLanes];
    for (std::int64_t i = 0; i < tile.blocks; ++i) {
      if (i % kLanes == 0) {
        const Vec amax = value_from_ordered<true, T>(scratch.extremes.max + i);
        store<false>(scales, choose_block_scale(amax, Vec(tensor_scale), args.rule));
      }
      bytes[i * step] = block_scale_to_byte(scales[i % kLanes]);
    }
  } else {
    auto* const scales = static_cast<float*>(task.chosen.scale) + tile.scale;
    for (std::int64_t i = 0; i < tile.blocks; ++i) scales[i * step] = scratch.params.scale[i];
  }
}

template <class T>
void write_chosen(const CodeTask& task, const QuantizeTile& tile, const TileScratch<T>& scratch) {
  write_scales(task, tile, scratch);
  if (task.chosen.zero_point == nullptr) return;
  const std::int64_t step = task.task.inner().scale;
  for (std::int64_t i = 0; i < tile.blocks; ++i) {
    const float scale = scratch.params.scale[i];
    const float zero_point = scratch.params.zero_point[i];
    task.chosen.zero_point[tile.scale + i * step] =
        scale == scale ? static_cast<std::int32_t>(zero_point) : 0;
  }
}

// Codes to where they belong, from bit `at` on: densely, or each to bytes of its own.
template <class Code>
void put_codes(const Code* codes, std::int64_t count, const FakeQuantizeArgs& args,
               std::int64_t at) {
  auto* const to = static_cast<std::uint8_t*>(args.output) + at / 8;
  const std::int64_t step = args.dim[args.dims - 1].output;
  if constexpr (sizeof(Code) == 1) {
    if (step == args.rule.bits) return pack_row(codes, count, args.rule.bits, to);
  }
  const std::size_t bytes = args.rule.bits > 8 ? 2 : 1;
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(to + i * (step / 8), codes + i, bytes);
}

template <class T>
void code_tile(const CodeTask& code_task, QuantizeTile tile, Scratch<T>& scratch) {
  const QuantizeTask& task = code_task.task;
  const FakeQuantizeArgs& args = task.args;
  const QuantizeDim& inner = task.inner();
  const CodeRows<T>& rows = rows_of<T>(args.rule);
  const bool wide = args.rule.bits > 8;
  const bool by_element = task.exact || wide;
  const auto elements = args.zero_point_is_floating() ? rows.elements_floating_zero : rows.elements;
  const std::int64_t chunk = by_element ? kMaxTileBlocks : kChunk;
  for (std::int64_t row = 0; row < tile.rows; ++row, tile.next_row(args)) {
    for_each_run(task, tile, chunk, scratch, [&](const RowRun<T>& all, std::int64_t column) {
      const float* const random = random_of(args, tile, column, all.count, scratch.random);
      const CodeRun<T> run = {all.input, random, all.count, all.steps, task.ahead};
      const std::int64_t at = tile.output + column * inner.output;
      if (by_element) {
        expand_params(scratch.params, run.steps, run.count, scratch.expanded);
        elements(run, scratch.expanded, args.rule, scratch.words);
        if (wide) return put_codes(scratch.words, run.count, args, at);
        for (std::int64_t i = 0; i < run.count; ++i) {
          scratch.bytes[i] = static_cast<std::uint8_t>(scratch.words[i]);
        }
      } else {
        rows.blocks(run, scratch.params, args.rule, scratch.bytes);
      }
      put_codes(scratch.bytes, run.count, args, at);
    });
  }
}

template <class T>
void code_tiles(const CodeTask& task, std::int64_t begin, std::int64_t end) {
  Scratch<T> scratch;
  for (std::int64_t number = begin; number < end; ++number) {
    const QuantizeTile tile = tile_at(task.task, number);
    tile_params(task.task, tile, scratch);
    if (task.chosen.scale != nullptr) write_chosen(task, tile, scratch);
    if (task.task.args.output != nullptr) code_tile(task, tile, scratch);
  }
}

// Calls function(codes, packed, count) for the pieces of rows: offsets of bytes.
template <class Function>
STROP_INLINE void for_each_piece(const BitRows& rows, std::int64_t begin, std::int64_t end,
                                 Function function) {
  const std::int64_t pieces = divide_up(rows.count, kBitPiece);
  for (std::int64_t number = begin; number < end; ++number) {
    const std::int64_t row = number / pieces;
    const std::int64_t first = number % pieces * kBitPiece;
    const std::int64_t left = rows.count - first;
    function(row * rows.count + first, row * rows.bytes() + first * rows.bits / 8,
             left < kBitPiece ? left : kBitPiece);
  }
}

}  // namespace

void quantize_codes(const CodeTask& task, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.task.args.dtype, [&]<class T>() { code_tiles<T>(task, begin, end); });
}

void pack_bits(const BitRows& rows, std::int64_t begin, std::int64_t end) {
  for_each_piece(rows, begin, end, [&](std::int64_t code, std::int64_t byte, std::int64_t count) {
    pack_row(static_cast<const std::uint8_t*>(rows.from) + code, count, rows.bits,
             static_cast<std::uint8_t*>(rows.to) + byte);
  });
}

void unpack_bits(const BitRows& rows, std::int64_t begin, std::int64_t end) {
  for_each_piece(rows, begin, end, [&](std::int64_t code, std::int64_t byte, std::int64_t count) {
    unpack_row(static_cast<const std::uint8_t*>(rows.from) + byte, count, rows.bits,
               static_cast<std::uint8_t*>(rows.to) + code);
  });
}

}  // namespace strop::quantize::simd::STROP_ISA
