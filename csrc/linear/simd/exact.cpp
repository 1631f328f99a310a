// Products of float32 with the values of codes, compiled once per instruction set. See Note
// [Products of codes on a CPU].

#include <type_traits>

#include "linear/simd/decode.h"
#include "linear/simd/float_tiles.h"
#include "linear/simd/panel_rows.h"
#include "linear/simd/planes.h"

namespace strop::linear::simd::STROP_ISA {
namespace {

// Rows of a tile: sums, a column of the panel and an element of x fit the registers.
constexpr int kMaxRows = kLanes == 4 ? 2 : kLanes == 8 ? 6 : 12;

constexpr std::int64_t kFloatColumns = kDecodedColumns / 2;

// The numbers of one group of a panel's rows.
struct Group {
  F32 scale[kRowVectors];
  F32 zero[kRowVectors];  // in the codes as they are stored
};

STROP_INLINE Group group_of(const PanelBlock& block, std::int64_t group) {
  const CodesHeader& header = block.header;
  Group numbers;
  for (int i = 0; i < kRowVectors; ++i) {
    numbers.scale[i] = load_unaligned<F32>(block.numbers<float>(header.scales, group) + i * kLanes);
    numbers.zero[i] =
        header.zeros != 0
            ? load_unaligned<F32>(block.numbers<float>(header.zeros, group) + i * kLanes)
            : broadcast(static_cast<float>(header.same_zero));
  }
  return numbers;
}

// One row of x: codes are decoded in registers.
template <class Decoder>
void multiply_one(const PanelBlock& block, const std::uint8_t* codes) {
  constexpr int kColumns = Decoder::kColumns, kSteps = 4 / kColumns;
  constexpr int kBytes = Decoder::kBytes;
  const CodesHeader& header = block.header;
  const Decoder decoder(header);
  const float* x = static_cast<const float*>(block.task.x) + block.row * header.places();
  F32 all[kRowVectors] = {};
  for (std::int64_t group = 0; group < header.groups; ++group) {
    const Group numbers = group_of(block, group);
    F32 sum[4][kRowVectors] = {};
    for (std::int64_t k = 0; k < header.stretch; k += 4, x += 4, codes += kSteps * kBytes) {
      prefetch(codes + kAhead);
      unrolled<kSteps>([&](auto step) STROP_UNROLLED {
        F32 values[kColumns][kRowVectors];
        decoder.decode(codes + step * kBytes, values);
        unrolled<kColumns>([&](auto c) STROP_UNROLLED {
          constexpr int kAt = step * kColumns + c;
          const F32 element = spread(x + kAt);
          unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
            const F32 value = Decoder::kZero ? values[c][i] - numbers.zero[i] : values[c][i];
            sum[kAt][i] = multiply_add(value, element, sum[kAt][i]);
          });
        });
      });
    }
    for (int i = 0; i < kRowVectors; ++i) {
      const F32 found = (sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i]);
      all[i] = multiply_add(found * broadcast(decoder.factor()), numbers.scale[i], all[i]);
    }
  }
  for (int i = 0; i < kRowVectors; ++i) store_unaligned(block.floats + i * kLanes, all[i]);
}

#if defined(STROP_PLANES)
// The same for nibbles whose zero points are all the same.
template <bool kUpper>
void multiply_one(const PanelBlock& block, const PlaneTable& table, const std::uint8_t* codes) {
  const CodesHeader& header = block.header;
  const float* x = static_cast<const float*>(block.task.x) + block.row * header.places();
  F32 all[kRowVectors] = {};
  for (std::int64_t group = 0; group < header.groups; ++group) {
    const Group numbers = group_of(block, group);
    F32 sum[kRowVectors];
    sum_planes<kUpper>(table, codes, x, header.stretch, sum);
    for (int i = 0; i < kRowVectors; ++i) all[i] = multiply_add(sum[i], numbers.scale[i], all[i]);
    codes += header.stretch / 2 * kPanelRows;
    x += header.stretch;
  }
  for (int i = 0; i < kRowVectors; ++i) store_unaligned(block.floats + i * kLanes, all[i]);
}

void multiply_one_by_planes(const PanelBlock& block, const std::uint8_t* codes) {
  float values[16];
  fill_table(block.header, values);
  const PlaneTable table(values);
  (table.upper() ? multiply_one<true> : multiply_one<false>)(block, table, codes);
}
#endif

// Places [begin, end) of a panel to float32, as dequantize gives them.
template <class Decoder>
void decode_panel(const PanelBlock& block, const std::uint8_t* codes, std::int64_t begin,
                  std::int64_t end, float* to) {
  constexpr int kColumns = Decoder::kColumns;
  const CodesHeader& header = block.header;
  const Decoder decoder(header);
  const F32 factor = broadcast(decoder.factor());
  codes += begin / kColumns * Decoder::kBytes;
  for (std::int64_t k = begin; k < end;) {
    const std::int64_t group = k / header.stretch, group_end = (group + 1) * header.stretch;
    const std::int64_t stop = group_end < end ? group_end : end;
    const Group numbers = group_of(block, group);
    for (; k < stop; k += kColumns, codes += Decoder::kBytes, to += kColumns * kPanelRows) {
      F32 values[kColumns][kRowVectors];
      decoder.decode(codes, values);
      unrolled<kColumns>([&](auto c) STROP_UNROLLED {
        unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
          const F32 value = Decoder::kZero ? values[c][i] - numbers.zero[i] : values[c][i];
          store_unaligned(to + c * kPanelRows + i * kLanes, value * factor * numbers.scale[i]);
        });
      });
    }
  }
}

// Places [begin, end).
struct DecodedPanel {
  std::int64_t begin;
  std::int64_t end;
  const float* values;
  Ahead ahead;
};

// kRows rows of x times them.
template <int kRows>
void multiply_tile(const PanelBlock& block, std::int64_t row, const DecodedPanel& decoded) {
  const std::int64_t places = block.header.places();
  const float* x = static_cast<const float*>(block.task.x) + (block.row + row) * places;
  float* const to = block.floats + row * kPanelRows;
  const float* panel = decoded.values;
  F32 sum[kRows][kRowVectors] = {};
  for (std::int64_t k = decoded.begin; k < decoded.end; ++k, panel += kPanelRows) {
    F32 w[kRowVectors];
    unrolled<kRowVectors>([&](auto i)
                              STROP_UNROLLED { w[i] = load_unaligned<F32>(panel + i * kLanes); });
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      const F32 element = spread(x + r * places + k);
      unrolled<kRowVectors>(
          [&](auto i) STROP_UNROLLED { sum[r][i] = multiply_add(w[i], element, sum[r][i]); });
    });
  }
  unrolled<kRows>([&](auto r) STROP_UNROLLED {
    unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
      float* const at = to + r * kPanelRows + i * kLanes;
      store_unaligned(at, decoded.begin == 0 ? sum[r][i] : sum[r][i] + load_unaligned<F32>(at));
    });
  });
}

template <int kRows = kMaxRows>
void multiply_rows(const PanelBlock& block, const DecodedPanel& panel, std::int64_t row = 0) {
  for (; block.rows - row >= kRows; row += kRows) {
    panel.ahead.fetch(row, kRows, block.rows);
    multiply_tile<kRows>(block, row, panel);
  }
  if constexpr (kRows > 1) {
    if (row < block.rows) multiply_rows<kRows - 1>(block, panel, row);
  }
}

template <class Decoder>
void multiply_panel(const PanelBlock& block, float* panel) {
  const CodesHeader& header = block.header;
  const std::uint8_t* const codes = block.codes();
  if (block.task.args.rows == 1) {
#if defined(STROP_PLANES)
    if (header.store == CodeStore::kNibbles && header.zeros == 0) {
      return multiply_one_by_planes(block, codes);
    }
#endif
    return multiply_one<Decoder>(block, codes);
  }
  for (std::int64_t k = 0; k < header.places(); k += kFloatColumns) {
    const std::int64_t left = header.places() - k;
    const std::int64_t end = k + (left < kFloatColumns ? left : kFloatColumns);
    decode_panel<Decoder>(block, codes, k, end, panel);
    constexpr std::int64_t bytes = Decoder::kBytes / Decoder::kColumns;  // of a column
    multiply_rows(block, {k, end, panel, {codes + end * bytes, kFloatColumns * bytes}});
  }
}

void multiply_panel(const PanelBlock& block, float* panel) {
  const CodesHeader& header = block.header;
#if defined(STROP_FLOAT_TILES)
  if (suits_float_tiles(block.task)) {
    return multiply_by_float_tiles(block, reinterpret_cast<std::uint8_t*>(panel));
  }
#endif
  const bool zero = header.zeros != 0 || header.same_zero != 0;
  const auto multiply = [&]() {
    if (header.code_kind == CodeKind::kFloat) return multiply_panel<FloatDecoder>;
    if (header.store == CodeStore::kBytes) {
      return zero ? multiply_panel<ByteDecoder<true>> : multiply_panel<ByteDecoder<false>>;
    }
    if constexpr (kOneTable) {
      if (header.zeros != 0) return multiply_panel<TableDecoder<true>>;
    } else {
      if (header.code_kind == CodeKind::kInteger) return multiply_panel<NibbleDecoder>;
    }
    return multiply_panel<TableDecoder<false>>;
  }();
  multiply(block, panel);
}

// A row of x, each group from a place of its own on.
template <class T, class To>
void place_row(const CodesTask& task, std::int64_t row) {
  const CodesHeader& header = task.args.header();
  const T* const x = static_cast<const T*>(task.args.x) + row * task.args.x_stride;
  To* const to = static_cast<To*>(task.x) + row * header.places();
  for (std::int64_t g = 0; g < header.groups; ++g) {
    const std::int64_t first = g * header.group, left = header.columns - first;
    const std::int64_t count = left < header.group ? left : header.group;
    To* const at = to + g * header.stretch;
    for (std::int64_t k = 0; k < count; ++k) {
      if constexpr (std::is_same_v<T, To>) {
        at[k] = x[first + k];
      } else {
        at[k] = to_float(x[first + k]);
      }
    }
    for (std::int64_t k = count; k < header.stretch; ++k) at[k] = {};
  }
}

}  // namespace

void widen_rows(const CodesTask& task, std::int64_t begin, std::int64_t end) {
#if defined(STROP_FLOAT_TILES)
  if (suits_float_tiles(task)) {
    for (std::int64_t row = begin; row < end; ++row) place_row<BFloat16, BFloat16>(task, row);
    return;
  }
#endif
  by_narrow_dtype(task.args.dtype, [&]<class T>() {
    for (std::int64_t row = begin; row < end; ++row) place_row<T, float>(task, row);
  });
}

void multiply_exact(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end) {
  for_panels(task, scratch, begin, end, [](const PanelBlock& block, void* decoded) {
    multiply_panel(block, static_cast<float*>(decoded));
  });
}

}  // namespace strop::linear::simd::STROP_ISA
