#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/execution.h"

namespace strop::linear {

// packed_linear: y[m][n] = activation(sum_k x[m][k] w[n][k] + bias[n]), where only the weights that
// pruning kept take part. Sums are float32, in an order that the layout fixes: no result depends on
// the number of threads. A pruned weight contributes nothing, even where x is Inf or NaN.

enum class Activation : std::uint8_t { kNone, kRelu, kGelu, kGeluTanh, kSilu };

// Throws ArgumentError for a name that is none; the empty one is kNone.
Activation activation_named(const char* op, const std::string& name);

// A pruned weight as it is kept: a bit for each weight, low bits first, each row from a byte of its
// own on, with the bits beyond a row 0; and the values whose bit is set, row by row.
struct MaskedMatrix {
  DType dtype = DType::kFloat32;  // of values: float32 or 16 bits; float64 for the reference loop
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  const std::uint8_t* bits = nullptr;
  const void* values = nullptr;
  std::int64_t count = 0;

  constexpr std::int64_t row_bytes() const { return (columns + 7) / 8; }
};

// Note [Layouts of a pruned weight]
// What the kernels read is prepared once, from the form above. A layout is one stretch of bytes
// that begins with its header and does not depend on the instruction set. There are three kinds.
//
// kMask has bits and values as above, and where each row's values begin. Kernels multiply with
// these where they are (see linear/bitmap.h), and need no layout: it is for callers who have no
// tensors.
//
// kStrips, for more rows of x, and fewer nonzeros. The weight is cut into blocks of rows and
// columns, so that the part of x that a block needs stays in the first cache. In a block, rows are
// sorted by the number of their nonzeros, and `interleave` neighbours make a strip; strips with
// equal counts make a run, so that loops take the same number of trips again and again. A strip's
// nonzeros are records of four:
//
//   shared   u8 column[4], weight[4][interleave]    columns that all rows of the strip have
//   own      u8 column[4], weight[4]                of row i % interleave, i in 0..3
//
// Weights are stored as the values are, in 32 or 16 bits.
//
// A column is that within the block. What is padded has weight 0 and the column after the last,
// which is 0 in x.
// interleave is 4, where accumulators take one or two registers each: up to 16 rows of x, or few
// nonzeros; or four of 32 registers. It is 2 where they take four of 16: more rows, and more
// nonzeros, whose x is then loaded once for both rows. Eight independent sums, or twice as many.
//
// kColumns, for weights that were pruned in blocks, of float32. A panel of kPanelRows rows keeps
// the columns that any of its rows has, whole:
//
//   columns   u16 each, within a block of columns
//   values    float[kPanelRows] each; 0 where a row has none
//   masks     u16 each: a bit for each row that has one; left out where every row has
//
// Blocks of block_columns columns are cut as those of strips are, and kGroupPanels panels make a
// group. The columns of a panel's block are a list; lists follow each other by groups, then blocks,
// then panels, as kernels read them.
enum class LayoutKind : std::int64_t { kMask = 1, kStrips = 2, kCodes = 3, kColumns = 4 };

inline constexpr std::int64_t kLayoutMagic = 0x6c5f706f72747301;  // "\1strop_l"
inline constexpr std::int64_t kMaxBlockColumns = 248;  // of kStrips, whose columns take a byte
inline constexpr std::int64_t kMaxListColumns = 1024;  // of kColumns
inline constexpr std::int64_t kBlockRows = 512;
inline constexpr std::int64_t kPanelRows = 16;
inline constexpr std::int64_t kGroupPanels = 8;
inline constexpr std::int64_t kGroupRows = kGroupPanels * kPanelRows;
inline constexpr std::int64_t kLayoutSlack = 64;  // bytes that a kernel may read past the last one

// Bytes of a record whose weights take `item` bytes each.
inline constexpr std::int64_t kRecordColumns = 4;  // bytes, a column each
constexpr std::int64_t own_bytes(std::int64_t item) { return kRecordColumns + 4 * item; }
constexpr std::int64_t shared_bytes(std::int64_t item, std::int64_t interleave) {
  return kRecordColumns + 4 * item * interleave;
}

struct LayoutHeader {
  std::int64_t magic;
  std::int64_t bytes;  // of all
  LayoutKind kind;
  std::int64_t dtype;  // DType, of the values
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t count;
  std::int64_t interleave;     // kStrips
  std::int64_t block_columns;  // kStrips, kColumns: of all blocks but the last of a row
  std::int64_t first;          // where the starts of rows, or of lists, or the blocks, are
  std::int64_t second;         // kMask: where the bits are; kColumns: the columns
  std::int64_t third;          // kMask, kColumns: where the values are

  DType values() const { return static_cast<DType>(dtype); }
  std::int64_t row_blocks() const { return rows == 0 ? 0 : (rows + kBlockRows - 1) / kBlockRows; }
  std::int64_t column_blocks() const {
    return columns == 0 ? 1 : (columns + block_columns - 1) / block_columns;
  }
  // Blocks of at most so many columns, of about equal width, in whole bytes of the mask.
  void cut_columns(std::int64_t most) {
    block_columns = most;
    const std::int64_t eights = 8 * column_blocks();
    const std::int64_t width = (columns + eights - 1) / eights * 8;
    block_columns = width < 8 ? 8 : width;
  }
};

// Of a layout of a matrix; all else is 0.
LayoutHeader header_of(const MaskedMatrix& matrix, LayoutKind kind);

// Of kColumns. `first`: int64[lists() + 1], where lists begin, in columns.
struct ColumnsHeader : LayoutHeader {
  std::int64_t masks;  // where they are; 0: every row has all columns of its panel

  std::int64_t groups() const { return (rows + kGroupRows - 1) / kGroupRows; }
  std::int64_t lists() const { return groups() * column_blocks() * kGroupPanels; }
};

// Strips that follow each other with equal counts of records.
struct StripRun {
  std::uint32_t shared;
  std::uint32_t own;
  std::uint32_t strips;
};

// A block: places in bytes from the header. `rows` are u16 within the block, in the order of the
// strips; the number after the last row fills up the last strip.
struct StripBlock {
  std::int64_t records;
  std::int64_t rows;
  std::int64_t runs;
  std::int64_t run_count;
};

// The layouts that there are to choose among.
enum class LayoutChoice { kMask, kQuads, kPairs, kPanels };

// Prepares a layout. The matrix has to be valid. (kPanels is kColumns for values of float32; it has
// those of bfloat16 as if they were codes: see linear/codes.h.)
std::vector<std::uint8_t> build_layout(const MaskedMatrix& matrix, LayoutChoice choice);
std::vector<std::uint8_t> build_columns_layout(const MaskedMatrix& matrix);

// The problem with a layout that somebody else made or altered: an index out of bounds, say. Empty
// if there is none.
std::string layout_problem(const void* layout, std::int64_t bytes);

// What a product reads and writes beside the weight. x and y have unit stride along their rows; row
// strides are in elements.
struct LinearRows {
  DType dtype;        // of x and y
  std::int64_t rows;  // of x
  const void* x;
  std::int64_t x_stride;
  void* y;
  std::int64_t y_stride;
  const void* bias;  // null: none
  DType bias_dtype;
  Activation activation;
  Isa isa = Isa::kActive;  // whose kernels; those that the options say
};

// The dtypes of values, of x and of bias may differ, unless one is float64: then all are.
struct MaskedLinearArgs : LinearRows {
  const void* layout;

  const LayoutHeader& header() const { return *static_cast<const LayoutHeader*>(layout); }
};

// The oracle takes a layout of kind kMask.
void run(const MaskedLinearArgs& args, Oracle);
void run(const MaskedLinearArgs& args, const ExecutionOptions& options);

}  // namespace strop::linear
