#pragma once

#include "linear/codes.h"
#include "quantize/codes.h"

namespace strop::linear {

// Note [Codes on a GPU]
// A GPU multiplies with the codes and scales as quantize packs them, and holds nothing else: a
// row's codes lie side by side, so that a warp reads them in their order whatever their width, and
// eight codes begin at a byte. The products are those of linear/codes.h. A kernel has up to
// kMaxCodesRows rows of x, for which the codes are read once.
//
// A thread block takes four rows of the weight, which share what is loaded of x, and all of their
// columns: a thread has pieces of 16 columns where x is float, of 32 where it is codes, and sums
// meet at the end. So 4096 rows are 1024 thread blocks, with enough loads in flight for the memory;
// a warp for each row would load x four times as often, and one for four rows leave most of the GPU
// idle. A piece never lies in two groups, so that groups of any size go by one loop; where they are
// no multiple of a piece, some pieces are short.
//
// What bounds it on an H200 (4.8 TB/s, 132 multiprocessors, 1.98 GHz), by counts, not measured: a
// multiprocessor gets 18 bytes a cycle, 37 codes of four bits or 18 of eight, and starts 128 lanes'
// instructions, 64 of them dp4a.
//
//   x        rows   instructions a code            share of the memory's speed, 4 bits and 8
//   float    1      5.6, three of them arithmetic  0.6   1
//   float    8      15, nine multiply-adds         0.25  0.5
//   codes    1      2.5, half a dp4a               1     1
//   codes    8      5.3, 2.3 dp4a                  0.65  1
//
// Restoring the weight at each call writes and reads four bytes a code beside: even eight rows of
// float x take half of its time.
//
// Note [Codes beside a mask on a GPU]
// Bits, and the codes of what is kept, which lie side by side as one row whatever byte a row of the
// weight begins in, are read as bits and values are (Note [Steps along a row]), for up to
// kMaxBitmapRows rows of x. A lane has a byte of the mask: its codes are taken from shared memory,
// spread to a byte each, and put where their columns are, so that what decodes eight codes, and
// what multiplies eight columns, need not know of the mask; only what is kept is added up.

inline constexpr std::int64_t kMaxCodesRows = 8;
inline constexpr std::int64_t kPieceColumns = 32;  // of x in codes
// So many columns of x in codes have sums that fit 32 bits in each thread.
inline constexpr std::int64_t kMaxCodedColumns = std::int64_t{1} << 22;

// Columns of a row in pieces of up to `width`; a group's last may be short, or have none.
struct Pieces {
  std::int64_t columns;
  std::int64_t group;
  std::int64_t width;

  constexpr std::int64_t groups() const { return (columns + group - 1) / group; }
  constexpr std::int64_t of_group() const { return (group + width - 1) / width; }
  constexpr std::int64_t all() const { return groups() * of_group(); }
};

// A matrix of two dimensions; what it would be restored to is not looked at. Beside the bits of a
// mask the codes are those of what is kept, row by row, as one row. Whoever calls a kernel has seen
// to it that bits, starts and codes fit each other; a kernel trusts them.
struct PackedCodes : quantize::DequantizeArgs {
  const std::uint8_t* bits = nullptr;    // [rows][ceil(columns / 8)]; none: all is kept
  const std::int64_t* starts = nullptr;  // [rows + 1], as of linear/bitmap.h

  std::int64_t rows() const { return problem.dim[0].size; }
  std::int64_t columns() const { return problem.dim[1].size; }
  Pieces pieces(std::int64_t width) const {
    const std::int64_t block = problem.dim[1].block;
    const std::int64_t group = block < columns() ? block : columns();
    return {.columns = columns(), .group = group > 0 ? group : 1, .width = width};
  }
};

// Rows of x in codes: signed bytes, those of uint8 less 128, piece by piece, with zeros up to
// kPieceColumns; where pieces have no gaps that is a matrix.
struct InputCodes {
  std::int8_t* codes;  // [rows][pieces][kPieceColumns]
  float* scale;        // [rows]
  std::int32_t* zero;  // [rows], less 128 likewise
  std::int32_t* sums;  // [rows][pieces]: of (code - zero)
};

struct InputCodesArgs : LinearRows {
  Activations activations;
  Pieces pieces;
  InputCodes to;  // written
};

// For kExact, up to kMaxCodesRows rows of x.
struct PackedCodesArgs : LinearRows {
  PackedCodes weight;
  Activations activations;
};

// The dense weight of codes beside a mask; what was pruned is +0.
struct KeptCodesUnpackArgs {
  PackedCodes weight;
  DType dtype;  // of dense
  void* dense;  // contiguous
};

// Where somebody else multiplies matrices of bytes: the weight in signed bytes, and what becomes of
// the products' sums. Of weights whose rows are one group each.
//
//   bytes[n][k] = code[n][k] - offset,    products[m][n] = sum_k x_code[m][k] bytes[n][k]
struct WeightBytesArgs {
  PackedCodes weight;
  std::int8_t* bytes;  // [N][K], written
  std::int32_t* sums;  // [N], written: of the bytes
};

struct ProductsArgs : LinearRows {
  PackedCodes weight;
  InputCodes input;
  const std::int32_t* products;  // [rows][N]
  const std::int32_t* sums;      // [N]
};

// Whether that way is open: shapes that torch's _int_mm takes.
inline bool suits_byte_matrices(const PackedCodesArgs& args) {
  const Pieces pieces = args.weight.pieces(kPieceColumns);
  return args.rows > 16 && pieces.groups() == 1 && pieces.columns % kPieceColumns == 0 &&
         pieces.columns <= kMaxSumColumns && args.weight.rows() > 0 && args.weight.rows() % 8 == 0;
}

std::size_t workspace_bytes(const PackedCodesArgs& args, const Launch& on);
void run(const PackedCodesArgs& args, void* workspace, const Launch& on);
void run(const KeptCodesUnpackArgs& args, const Launch& on);
void run(const InputCodesArgs& args, const Launch& on);
void run(const WeightBytesArgs& args, const Launch& on);
void run(const ProductsArgs& args, const Launch& on);

}  // namespace strop::linear
