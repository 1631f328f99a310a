#pragma once

#include <cstdint>
#include <vector>

#include "core/execution.h"
#include "quantize/codes.h"
#include "quantize/gradient.h"

namespace strop::quantize {

// Note [Quantize tiles]
// A problem, simplified to few dimensions, is cut into tiles: the work items that threads share.
// All blocks of one place in the outer dimensions' grid of blocks form a slab: its rows run along
// the inner dimension and share one row of block parameters. A tile is a piece of a slab, some rows
// by some columns. Its parameters are read (static) or found from its extremes (dynamic) once, into
// arrays that stay in L1, and then every row is quantized with them.
//
//            inner dimension ->
//   slab 0   | block | block | block | blo    one row of parameters for all rows of the slab
//     rows   |       |       |       |
//   slab 1   | block | block | block | blo
//
// A dynamic tile holds whole blocks, so that their extremes are known before they are written, and
// fits the cache, so that memory is read once. Blocks larger than that take two passes: extremes of
// all of memory into one pair a block, then a static pass.
struct QuantizeTask {
  FakeQuantizeArgs args;  // simplified
  bool stream;            // non-temporal stores: the output is larger than the cache holds
  std::int64_t ahead;     // elements, of what to prefetch
  bool narrow;            // blocks of fewer columns than the widest vector
  bool exact;             // the formula itself, element by element: see Note [Shifted range]
  TileShape shape;

  const QuantizeDim& inner() const { return args.dim[args.dims - 1]; }
};

// Blocks along the inner dimension that a tile may have; columns, where they are narrow.
inline constexpr std::int64_t kMaxTileBlocks = 1024;

// Elements of a tile that is read once: a few L1.
inline constexpr std::int64_t kStaticTile = 16384;

struct QuantizeTile {
  std::int64_t input;  // element offsets of its first element
  std::int64_t output;
  std::int64_t index;
  std::int64_t scale;  // of its first block
  std::int64_t zero_point;
  std::int64_t slab;
  std::int64_t first_block;  // along the inner dimension
  std::int64_t blocks;
  std::int64_t into_block;  // columns of the first block that lie before the tile
  std::int64_t columns;
  std::int64_t rows;
  std::int64_t at[kMaxDims];      // the current row in the outer dimensions, relative to the slab
  std::int64_t extent[kMaxDims];  // of the slab in the outer dimensions

  // Moves input, output and index on to the next row.
  void next_row(const FakeQuantizeArgs& args);
};

// A simplified problem in tiles of so many rows of a slab by so many columns.
QuantizeTask cut_tiles(const FakeQuantizeArgs& args, std::int64_t rows, std::int64_t columns,
                       std::int64_t stream_bytes = kStreamBytes);

// What the blocks of a problem that are too large for a cache are quantized with, by their numbers
// (number_blocks in quantize/arguments.h).
struct ChosenBlocks {
  std::vector<float> scale;
  std::vector<std::int32_t> zero_point;
};
ChosenBlocks choose_blocks(const FakeQuantizeArgs& numbered, std::int64_t blocks,
                           const ExecutionOptions& options);

// The upper level of scales in two levels.
float find_tensor_scale(FakeQuantizeArgs args, const ExecutionOptions& options);

QuantizeTile tile_at(const QuantizeTask& task, std::int64_t number);

// A quantize in tiles. What a tile's rows put out are whole bytes.
struct CodeTask {
  QuantizeTask task;  // `output` in bits
  ChosenScales chosen;
};

// Codes of a row that pack_bits and unpack_bits work on at a time: whole bytes.
inline constexpr std::int64_t kBitPiece = 16384;

// Elements of the unit in which masked_gradient is shared among threads: whole cache lines of every
// type, and of the mask.
inline constexpr std::int64_t kMaskedUnit = 4096;

// A learned_gradient in tiles. Every tile sums its blocks' terms into doubles of its own,
// `blocks_held` of them from tile number * blocks_held on.
struct LearnedTask {
  QuantizeTask forward;
  const void* gradient;
  std::int64_t blocks_held;
  double* scale_sums;
  double* zero_sums;  // nullptr unless the zero point is floating
};

// The kernels, once per instruction set. `begin` and `end` are numbers of tiles, where nothing else
// is said.
struct Kernels {
  void (*fake_quantize)(const QuantizeTask& task, std::int64_t begin, std::int64_t end);
  // Takes the tiles' elements into the ordered extremes of their blocks; `min` is left alone for a
  // symmetric rule.
  void (*extremes)(const QuantizeTask& task, std::int64_t begin, std::int64_t end,
                   std::int32_t* min, std::int32_t* max);
  void (*quantize)(const CodeTask& task, std::int64_t begin, std::int64_t end);
  void (*dequantize)(const QuantizeTask& task, std::int64_t begin, std::int64_t end);
  // Of pieces of rows.
  void (*pack_bits)(const BitRows& rows, std::int64_t begin, std::int64_t end);
  void (*unpack_bits)(const BitRows& rows, std::int64_t begin, std::int64_t end);
  // Of elements, multiples of kMaskedUnit or the end.
  void (*masked_gradient)(const MaskedGradientArgs& args, bool stream, std::int64_t begin,
                          std::int64_t end);
  void (*learned_gradient)(const LearnedTask& task, std::int64_t begin, std::int64_t end);
};

const Kernels& kernels(Isa isa);
bool has_kernels(Isa isa);

}  // namespace strop::quantize
