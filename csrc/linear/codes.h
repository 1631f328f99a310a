#pragma once

#include <cfloat>
#include <cstring>

#include "formats/number_format.h"
#include "linear/layout.h"

namespace strop::linear {

// packed_linear with a dense weight in codes of at most 8 bits, which have a scale, and maybe a
// zero point, for each group of columns of a row:
//
//   w[n][k] = (value(code[n][k]) - zero[n][g]) * scale[n][g],   g = k / group
//
// Activations::kExact multiplies these numbers in float32:
//
//   y[m][n] = activation(sum_g scale[n][g] * sum_{k in g} x[m][k] (value - zero[n][g]) + bias[n])
//
// in an order that may differ between instruction sets. The others quantize each row of x first, as
// quantize does for the formats int8 (symmetric) and uint8 (asymmetric) with blocks of a row, and
// multiply integers:
//
//   sum[g]  = sum_{k in g} (x_code[m][k] - x_zero[m]) (code[n][k] - zero[n][g])         exact
//   y[m][n] = float(sum) * (x_scale[m] * scale[n])                                      one group
//   y[m][n] = (..(float(sum[0]) * scale[n][0] + float(sum[1]) * scale[n][1]) + ..) * x_scale[m]
//
// then + bias[n], then the activation: in float32, each operation rounded once. These are the same
// bits on every instruction set, number of threads and device. A row of x with NaN or Inf has the
// scale NaN, and gives NaN.
enum class Activations : std::int64_t { kExact, kInt8, kUInt8 };

// What quantize asks of a rule, to choose scales and zero points (quantize/fake_quantize.h).
struct ByteRule {
  double low;
  double high;
  double eps = FLT_MIN;
  double zero_point = 0;
  double quant_min = low, quant_max = high;

  constexpr double half_range() const { return (high - low) / 2; }
  constexpr double range() const { return high - low; }
};

// Throws ArgumentError for a name that is none; the empty one is kExact.
Activations activations_named(const char* op, const std::string& name);

// Note [Layouts of codes]
// What a CPU reads; a GPU reads the codes as quantize packs them (linear/packed_codes.h).
//
// kCodes: panels of kPanelRows rows of the weight, which are the lanes of vectors. A group takes
// `stretch` places along a panel: its columns, and then zeros. Where integers are multiplied, codes
// lie by four columns, as dot products of four bytes take them:
//
//   bytes     code[k / 4][n][k % 4], signed
//   nibbles   code[k / 8][n][k % 4], unsigned: columns 8 i + j low, 8 i + 4 + j high
//
// so that 64 columns of bytes are one tile of AMX. For exact products they lie column by column:
//
//   bytes     code[k][n]
//   nibbles   code[k / 2][n]: even columns low
//
// Codes of integers are stored less `offset`, so that they fit, and so are their zeros.
//
// Values of bfloat16 lie by two columns, as tiles of AMX take them:
//
//   bfloat16  value[k / 2][n][k % 2]
//
// Beside a mask a panel has a bit for each of its codes, in the order in which they lie, and after
// each other the codes whose bit is set. 64 codes share a word of bits: of nibbles the low ones of
// 64 bytes, then the high ones. The codes of a word begin at a byte. Where no bit is set the
// kernels put `fill`, the code of 0.
enum class CodeStore : std::int64_t { kBytes, kNibbles, kBFloat16 };

inline constexpr std::int64_t kGroupUnit = 16;         // a stretch is a multiple of it,
inline constexpr std::int64_t kTileUnit = 64;          // and of this, where it is longer
inline constexpr std::int64_t kWordCodes = 64;         // that share a word of a mask
inline constexpr std::int64_t kMaxSumColumns = 32768;  // whose products' sum fits 32 bits

constexpr std::int64_t stretch_of(std::int64_t group) {
  const std::int64_t unit = group > kTileUnit ? kTileUnit : kGroupUnit;
  return (group + unit - 1) / unit * unit;
}

// What a code of an exact product stands for.
enum class CodeKind : std::int64_t {
  kInteger,  // itself
  kTable,    // table[code]
  kFloat,    // a float of few bits: see FloatCode
  kValue,    // the value itself, of bfloat16
};

// A float code is stored with its sign in bit 7. Moved up by `shift`, its other bits are those of a
// float16, and a power of two makes up for the other bias. (A group with a code that is NaN has the
// scale NaN, since not every NaN stays one.)
struct FloatCode {
  std::int32_t shift;
  std::int32_t sizes;  // its bits but for the sign
  float factor;
};

struct CodesHeader : LayoutHeader {
  Activations activations;
  CodeStore store;
  CodeKind code_kind;
  FloatCode float_code;
  float table[16];
  std::int64_t group;
  std::int64_t stretch;
  std::int64_t groups;
  std::int64_t parts;      // groups that make one, where that has more than kMaxSumColumns columns
  std::int64_t offset;     // of integers' codes
  std::int64_t same_zero;  // all zeros, where there are no others; as they are stored
  std::int64_t codes;      // places, in bytes
  std::int64_t scales;     // float[panels][groups][16]
  std::int64_t zeros;      // 0, or float[panels][groups][16]; int32 where integers are multiplied
  std::int64_t sums;       // there int32[panels][groups][16]: of (code - zero)
  bool bytes_less_zero;    // whether each (code - zero) fits a signed byte, of nibbles
  std::int64_t masks;      // 0: all codes are there; or uint64[panels][panel_words()]
  std::int64_t starts;     // beside masks: int64[panels + 1], where codes begin, from the first on
  std::int64_t same_fill;  // all fills, where there are no others; a nibble's in both
  std::int64_t fills;      // 0, or uint8[panels][groups][16]

  std::int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  std::int64_t places() const { return groups * stretch; }  // along a panel
  std::int64_t panel_bytes() const { return bytes_of(places()); }
  // Of so many places along a panel, if all codes are there.
  std::int64_t bytes_of(std::int64_t along) const {
    const std::int64_t all = along * kPanelRows;
    return store == CodeStore::kNibbles ? all / 2 : store == CodeStore::kBytes ? all : all * 2;
  }
  std::int64_t panel_words() const { return places() * kPanelRows / kWordCodes; }
  std::uint8_t fill(std::int64_t panel, std::int64_t of_group, std::int64_t row) const {
    if (fills == 0) return static_cast<std::uint8_t>(same_fill);
    const std::int64_t at = (panel * groups + of_group) * kPanelRows + row;
    return reinterpret_cast<const std::uint8_t*>(this)[fills + at];
  }
};

// Bytes that so many codes of a word take.
constexpr std::int64_t kept_bytes(CodeStore store, std::int64_t count) {
  return store == CodeStore::kNibbles ? (count + 1) / 2
         : store == CodeStore::kBytes ? count
                                      : count * 2;
}

// Where a code is within a panel.
struct CodePlace {
  std::int64_t byte;
  int shift;
};
constexpr CodePlace place_of(const CodesHeader& header, std::int64_t place, std::int64_t row) {
  const bool exact = header.activations == Activations::kExact;
  const std::int64_t four = 4 * kPanelRows;
  if (header.store == CodeStore::kBFloat16) {
    return {(place / 2 * 2 * kPanelRows + row * 2 + place % 2) * 2, 0};
  }
  if (header.store == CodeStore::kBytes) {
    if (exact) return {place * kPanelRows + row, 0};
    return {place / 4 * four + row * 4 + place % 4, 0};
  }
  if (exact) return {place / 2 * kPanelRows + row, static_cast<int>(place % 2) * 4};
  return {place / 8 * four + row * 4 + place % 4, static_cast<int>(place / 4 % 2) * 4};
}

// Its number among a panel's codes, as words of bits have them.
constexpr std::int64_t number_of(CodeStore store, const CodePlace& at) {
  if (store == CodeStore::kBytes) return at.byte;
  if (store == CodeStore::kBFloat16) return at.byte / 2;
  return (at.byte / kWordCodes * 2 + at.shift / 4) * kWordCodes + at.byte % kWordCodes;
}

// The column at a place along a panel, or -1 where there is none.
constexpr std::int64_t column_at(const CodesHeader& header, std::int64_t place) {
  const std::int64_t within = place % header.stretch;
  const std::int64_t column = place / header.stretch * header.group + within;
  return within < header.group && column < header.columns ? column : -1;
}

// What a stored code stands for, less no zero point and unscaled.
inline float value_of(const CodesHeader& header, int stored) {
  if (header.code_kind == CodeKind::kInteger) return static_cast<float>(stored);
  if (header.code_kind == CodeKind::kTable) return header.table[stored];
  const FloatCode& bits = header.float_code;
  const int sign = stored < 0 ? 1 : 0, size = stored & bits.sizes;
  const auto half = static_cast<std::uint16_t>(sign << 15 | size << bits.shift);
  return to_float(Float16{half}) * bits.factor;
}
// The code at a place of a panel.
inline int stored_code(const CodesHeader& header, const std::uint8_t* panel, const CodePlace& at) {
  return header.store == CodeStore::kNibbles ? panel[at.byte] >> at.shift & 15
                                             : static_cast<std::int8_t>(panel[at.byte]);
}
inline float value_of(const CodesHeader& header, const std::uint8_t* panel, const CodePlace& at) {
  if (header.store != CodeStore::kBFloat16) return value_of(header, stored_code(header, panel, at));
  BFloat16 value;
  std::memcpy(&value, panel + at.byte, sizeof value);
  return to_float(value);
}

// A weight to lay out: a byte a code, row by row; scales and zeros of each row's groups. Beside a
// mask, bits of its rows, low bits first; a code without one is the code of 0.
struct CodesMatrix {
  const NumberFormat* format;
  Activations activations;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t group;
  const std::uint8_t* codes;
  const float* scales;
  const float* zeros;                  // nullptr: 0
  const std::uint8_t* bits = nullptr;  // nullptr: all take part
};

std::vector<std::uint8_t> build_codes_layout(const CodesMatrix& matrix);
// Of values of bfloat16 that a mask keeps.
std::vector<std::uint8_t> build_panels_layout(const MaskedMatrix& matrix);

// The codes of all panels, as they would lie without a mask.
std::vector<std::uint8_t> whole_codes(const CodesHeader& header);

struct CodedLinearArgs : LinearRows {
  const void* layout;

  const CodesHeader& header() const { return *static_cast<const CodesHeader*>(layout); }
};

void run(const CodedLinearArgs& args, Oracle);
void run(const CodedLinearArgs& args, const ExecutionOptions& options);

}  // namespace strop::linear
