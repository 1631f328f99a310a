#pragma once

#include "core/execution.h"
#include "linear/bitmap.h"
#include "linear/codes_task.h"
#include "linear/layout.h"

namespace strop::linear {

// Note [Strips on a CPU]
// x is laid out anew: a tile is up to four vectors of rows of x, and holds for each block of
// columns one vector after another, column by column, and a column of zeros at the end. A nonzero
// is then one multiply-add a vector, whose x lies at the record's column times the tile's width.
// Records are read one ahead: an address known early is worth a third of the time (measured: 1.5
// cycles a vector without, 1.1 with; 1.0 is what the multiply-adds take).
//
// An item of work is a block of rows of the weight times a group of tiles. Its sums lie in a
// scratch that a second cache holds; they go out through a transpose, with bias and activation.

inline constexpr int kMaxTiles = 4;       // of a group: as many as share a block of the weight
inline constexpr int kRowsAtATime = 512;  // of x, laid out anew before they are multiplied

// Rows of x side by side.
struct PanelTile {
  std::int64_t first;      // row of x
  int rows;                // of x; the lanes after them are 0
  int registers;           // vectors
  std::int64_t panel = 0;  // where it begins, in floats
};

// Note [Rows of bits on a CPU]
// A weight's row is a word of its mask after another: the word's values are spread over its columns
// and multiplied with up to eight rows of x, whose columns of a word lie side by side. So what is
// spread is spread once for all of them. Rows of x that a first cache does not hold are taken a
// block of columns at a time, for as many rows of the weight as a vector has lanes; sums stay apart
// by lanes up to the end of a row. Vectors are read of values from wherever a word's begin: the
// last ones are copied, with room behind them.
inline constexpr int kMaxFewRows = 8;
inline constexpr std::int64_t kBitmapSlack = 64;  // bytes that are read past the last value

// Floats that a call needs.
constexpr std::int64_t bitmap_scratch(const BitmapLinearArgs& args) {
  const std::int64_t rows = args.rows < kMaxFewRows ? args.rows : kMaxFewRows;
  const std::int64_t columns = (args.weight.columns + 63) / 64 * 64;
  return (rows + 1) * columns + 2 * kBitmapSlack;
}

struct StripTask {
  MaskedLinearArgs args;
  float* panels;
  const PanelTile* tiles;
  int tile_count;

  const StripBlock* blocks() const {
    return reinterpret_cast<const StripBlock*>(static_cast<const std::uint8_t*>(args.layout) +
                                               args.header().first);
  }
  // One row of x under strips of four has no use for vectors of rows: its elements are gathered.
  bool one() const { return args.rows == 1 && args.header().interleave == 4; }
  // Floats of one tile's sums: also for the row that fills up, and whole vectors of rows.
  std::int64_t tile_sums(int lanes) const {
    return (kBlockRows + lanes) * tiles[0].registers * lanes;  // the first are widest
  }
  int groups() const { return (tile_count + kMaxTiles - 1) / kMaxTiles; }
};

// Note [Kept columns on a CPU]
// A column of a panel is multiplied as it lies: its values are vectors, and the elements of a few
// rows of x are spread over them. Six rows by two vectors are 12 multiply-adds for eight loads.
// AVX-512, where a column is one vector, does so for up to eight rows. For more x lies in vectors
// of rows, as under strips, and it is the values that are spread: eight of them by three vectors
// are 24 multiply-adds for 11 loads, and read a third of the weights that 16 rows of x by one
// vector would.
//
// An item of work is a group of panels times a group of tiles of x. A block's part of a tile stays
// in the caches while the lists of some groups pass by, one after another as they lie.
//
// Where a row lacks columns of its panel, Inf and NaN of x are placed as 0, and multiplied with
// what is kept afterwards.
inline constexpr int kGroupInputs = 144;  // rows of x of a group of tiles, at most
inline constexpr std::int64_t kGroupsAtOnce = 8;
inline constexpr std::int64_t kColumnSums = std::int64_t{1} << 17;  // of these, which a cache holds

struct ColumnsTask : StripTask {
  bool* finite;  // [tiles][blocks of columns], of x; where rows lack columns
  bool vectors;  // x lies in vectors of rows; else an element of each row of a tile after the other
  int lanes;     // of these vectors; else 1

  const ColumnsHeader& columns_header() const {
    return *static_cast<const ColumnsHeader*>(args.layout);
  }
  // Floats of a column of a tile, and of the widest one; of its sums.
  int width(int tile) const { return tiles[tile].registers * lanes; }
  std::int64_t tile_floats() const { return kGroupRows * width(0); }
  // Groups of tiles, of about equal numbers; and groups of panels that go together.
  int tile_groups() const {
    const int most = kGroupInputs / width(0);
    return (tile_count + most - 1) / most;
  }
  int tiles_a_group() const { return (tile_count + tile_groups() - 1) / tile_groups(); }
  std::int64_t groups_at_once() const {
    const std::int64_t groups = kColumnSums / (tile_floats() * tiles_a_group());
    return groups < 1 ? 1 : groups > kGroupsAtOnce ? kGroupsAtOnce : groups;
  }
};

// The kernels, once per instruction set.
struct Kernels {
  int lanes;              // of a vector
  int most_registers[2];  // of a tile, under strips of 4 and of 2
  int column_rows;        // of a tile under kept columns;
  int column_registers;   // and for more rows, where x then lies in vectors; else 0
  // Lays tile number x block of columns [begin, end) of x out.
  void (*fill_panels)(const StripTask& task, std::int64_t begin, std::int64_t end);
  // Groups of tiles x blocks of rows [begin, end). `sums` has room for those of a group of tiles.
  void (*multiply_strips)(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end);
  // The same for one row of x, as it is.
  void (*multiply_one)(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end);
  // Rows [begin, end) of a weight as bits and values times every row of x, with bitmap_scratch.
  void (*multiply_mask)(const BitmapLinearArgs& args, float* scratch, std::int64_t begin,
                        std::int64_t end);
  // Tile number x block of columns [begin, end) of x, for kept columns.
  void (*place_columns)(const ColumnsTask& task, std::int64_t begin, std::int64_t end);
  // Groups of tiles x groups of panels [begin, end). `sums` has room for those that go together.
  void (*multiply_columns)(const ColumnsTask& task, float* sums, std::int64_t begin,
                           std::int64_t end);
  // Rows [begin, end) of x to codes.
  void (*quantize_rows)(const CodesTask& task, std::int64_t begin, std::int64_t end);
  // The same to float32, or as they are where the set multiplies those.
  void (*widen_rows)(const CodesTask& task, std::int64_t begin, std::int64_t end);
  // Blocks of rows x panels [begin, end), with kCodesScratch bytes.
  void (*multiply_codes)(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                         std::int64_t end);
  void (*multiply_exact)(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                         std::int64_t end);
  // The bits of a row's nonzeros.
  void (*nonzero_bits)(const float* row, std::int64_t count, std::uint8_t* bits);
};

const Kernels& kernels(Isa isa);
bool has_kernels(Isa isa);

}  // namespace strop::linear
