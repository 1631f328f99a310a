// Products of float32 with the values of codes, compiled once per instruction set. See Note
// [Products of codes on a CPU].

#include <cmath>
#include <type_traits>

#include "linear/simd/decode.h"
#include "linear/simd/float_tiles.h"
#include "linear/simd/panel_rows.h"
#include "linear/simd/planes.h"
#include "linear/simd/spread.h"

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

// One row of x: codes are decoded in registers. Adds places [begin, end) to `all`.
template <class Decoder>
STROP_INLINE void multiply_one(const PanelBlock& block, const Decoder& decoder,
                               const Stretch<std::uint8_t>& stretch, F32 (&all)[kRowVectors]) {
  constexpr int kColumns = Decoder::kColumns, kSteps = 4 / kColumns;
  constexpr int kBytes = Decoder::kBytes;
  const CodesHeader& header = block.header;
  const std::uint8_t* codes = stretch.codes;
  const float* const row = static_cast<const float*>(block.task.x) + block.row * header.places();
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(header, k, stretch.end);
    const Group numbers = group_of(block, segment.group);
    F32 sum[4][kRowVectors] = {};
    for (; k < segment.end; k += 4, codes += kSteps * kBytes) {
      const float* const x = row + k;
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
}

#if defined(STROP_PLANES)
// The same for nibbles whose zero points are all the same.
template <bool kUpper>
STROP_INLINE void multiply_one(const PanelBlock& block, const PlaneTable& table,
                               const Stretch<std::uint8_t>& stretch, F32 (&all)[kRowVectors]) {
  const CodesHeader& header = block.header;
  const std::uint8_t* codes = stretch.codes;
  const float* const x = static_cast<const float*>(block.task.x) + block.row * header.places();
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(header, k, stretch.end);
    const Group numbers = group_of(block, segment.group);
    const std::int64_t count = segment.end - k;
    F32 sum[kRowVectors];
    sum_planes<kUpper>(table, codes, x + k, count, sum);
    for (int i = 0; i < kRowVectors; ++i) all[i] = multiply_add(sum[i], numbers.scale[i], all[i]);
    codes += count / 2 * kPanelRows;
    k = segment.end;
  }
}
#endif

// Calls add(stretch, sums) for all of a panel.
template <class Add>
STROP_INLINE void sum_one_row(const PanelBlock& block, Add add) {
  const std::int64_t places = block.header.places();
  PanelCodes codes(block, block.spread);
  const std::int64_t step = codes.step(places);
  F32 all[kRowVectors] = {};
  for (std::int64_t k = 0; k < places; k += step) {
    const std::int64_t end = k + step < places ? k + step : places;
    add({k, end, codes.take(k, end)}, all);
  }
  for (int i = 0; i < kRowVectors; ++i) store_unaligned(block.floats + i * kLanes, all[i]);
}

using RowSums = F32 (&)[kRowVectors];

template <class Decoder>
void multiply_one(const PanelBlock& block) {
  const Decoder decoder(block.header);
  sum_one_row(block, [&](const Stretch<std::uint8_t>& stretch, RowSums all)
                         STROP_UNROLLED { multiply_one(block, decoder, stretch, all); });
}

#if defined(STROP_PLANES)
template <bool kUpper>
void multiply_one_by_planes(const PanelBlock& block, const PlaneTable& table) {
  sum_one_row(block, [&](const Stretch<std::uint8_t>& stretch, RowSums all)
                         STROP_UNROLLED { multiply_one<kUpper>(block, table, stretch, all); });
}

void multiply_one_by_planes(const PanelBlock& block) {
  float values[16];
  fill_table(block.header, values);
  const PlaneTable table(values);
  (table.upper() ? multiply_one_by_planes<true> : multiply_one_by_planes<false>)(block, table);
}
#endif

// Places of a panel to float32, as dequantize gives them.
template <class Decoder>
void decode_panel(const PanelBlock& block, const Stretch<std::uint8_t>& stretch, float* to) {
  constexpr int kColumns = Decoder::kColumns;
  const CodesHeader& header = block.header;
  const Decoder decoder(header);
  const F32 factor = broadcast(decoder.factor());
  const std::uint8_t* codes = stretch.codes;
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(header, k, stretch.end);
    const Group numbers = group_of(block, segment.group);
    for (; k < segment.end; k += kColumns, codes += Decoder::kBytes, to += kColumns * kPanelRows) {
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
void multiply_panel(const PanelBlock& block) {
  const CodesHeader& header = block.header;
  if (block.task.args.rows == 1) {
#if defined(STROP_PLANES)
    if (header.store == CodeStore::kNibbles && header.zeros == 0) {
      return multiply_one_by_planes(block);
    }
#endif
    return multiply_one<Decoder>(block);
  }
  auto* const panel = reinterpret_cast<float*>(block.decoded);
  PanelCodes codes(block, block.spread);
  for (std::int64_t k = 0; k < header.places(); k += kFloatColumns) {
    const std::int64_t left = header.places() - k;
    const std::int64_t end = k + (left < kFloatColumns ? left : kFloatColumns);
    decode_panel<Decoder>(block, {k, end, codes.take(k, end)}, panel);
    DecodedPanel decoded = {k, end, panel, {}};
    if (!codes.masked()) {
      decoded.ahead = {block.codes() + header.bytes_of(end), header.bytes_of(kFloatColumns)};
    }
    multiply_rows(block, decoded);
  }
}

// What x was given at a place.
float given_at(const LinearRows& args, const CodesHeader& header, std::int64_t row,
               std::int64_t place) {
  const std::int64_t column = column_at(header, place);
  float x = 0;
  if (column < 0) return x;
  by_narrow_dtype(args.dtype, [&]<class T>() {
    x = to_float(static_cast<const T*>(args.x)[row * args.x_stride + column]);
  });
  return x;
}

// Beside a mask Inf and NaN are placed as 0, so that they meet no weight that was left out. Here
// they are multiplied with those that were kept: what comes of that is the same in any order.
void add_not_finite(const PanelBlock& block, std::int64_t row) {
  const CodesHeader& header = block.header;
  const auto* const words = reinterpret_cast<const std::uint64_t*>(block.layout() + header.masks) +
                            block.panel * header.panel_words();
  PanelCodes codes(block, block.spread);
  float* const sums = block.floats + row * kPanelRows;
  for (std::int64_t k = 0; k < header.places(); k += kGroupUnit) {
    const std::uint8_t* const from = codes.take(k, k + kGroupUnit);
    const std::int64_t group = k / header.stretch;
    const float* const scale = block.numbers<float>(header.scales, group);
    const float* const zero = block.numbers<float>(header.zeros, group);
    for (std::int64_t i = 0; i < kGroupUnit; ++i) {
      const float x = given_at(block.task.args, header, block.row + row, k + i);
      if (std::isfinite(x)) continue;
      for (std::int64_t n = 0; n < kPanelRows; ++n) {
        const std::int64_t number = number_of(header.store, place_of(header, k + i, n));
        if ((words[number / kWordCodes] >> number % kWordCodes & 1) == 0) continue;
        const float value = value_of(header, from, place_of(header, i, n));
        const float least = header.zeros != 0 ? zero[n] : static_cast<float>(header.same_zero);
        sums[n] += x * ((value - least) * scale[n]);
      }
    }
  }
}

void add_not_finite(const PanelBlock& block) {
  if (block.header.masks == 0) return;
  const bool* const finite = block.task.x_finite + block.row;
  if (std::memchr(finite, 0, static_cast<std::size_t>(block.rows)) == nullptr) return;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    if (!finite[row]) add_not_finite(block, row);
  }
}

// Calls with_decoder.template operator()<Decoder>() with that of a layout.
template <class WithDecoder>
STROP_INLINE void by_decoder(const CodesHeader& header, WithDecoder with_decoder) {
  const bool zero = header.zeros != 0 || header.same_zero != 0;
  if (header.code_kind == CodeKind::kFloat) return with_decoder.template operator()<FloatDecoder>();
  if (header.store == CodeStore::kBytes) {
    return zero ? with_decoder.template operator()<ByteDecoder<true>>()
                : with_decoder.template operator()<ByteDecoder<false>>();
  }
  if constexpr (kOneTable) {
    if (header.zeros != 0) return with_decoder.template operator()<TableDecoder<true>>();
  } else {
    if (header.code_kind == CodeKind::kInteger) {
      return with_decoder.template operator()<NibbleDecoder>();
    }
  }
  with_decoder.template operator()<TableDecoder<false>>();
}

void multiply_panel(const PanelBlock& block) {
  if (block.header.code_kind == CodeKind::kValue) return multiply_panel<ValueDecoder>(block);
  by_decoder(block.header, [&]<class Decoder>() { multiply_panel<Decoder>(block); });
}

#if defined(STROP_FLOAT_TILES)
void multiply_by_float_tiles(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                             std::int64_t end) {
  const CodesHeader& header = task.args.header();
  const auto put = [](const PanelBlock* blocks, int count) {
    for (int i = 0; i < count; ++i) add_not_finite(blocks[i]);
    count == 2 ? put_blocks<2>(blocks) : put_blocks<1>(blocks);
  };
  if (header.code_kind == CodeKind::kValue) {
    return for_tile_panels<KeptTiles>(task, scratch, begin, end, put);
  }
  if (suits_row_tiles(header)) return for_tile_panels<RowTiles>(task, scratch, begin, end, put);
  by_decoder(header, [&]<class Decoder>() {
    for_tile_panels<DecodedTiles<Decoder>>(task, scratch, begin, end, put);
  });
}
#endif

template <class T>
STROP_INLINE bool is_finite(const T* x, std::int64_t count) {
  Vec none(0.0f);  // what v - v is, unless v is Inf or NaN
  for (std::int64_t k = 0; k < count; k += kLanes) {
    const std::int64_t left = count - k;
    const Vec v = left >= kLanes ? load(x + k) : load_first(x + k, left);
    none = none + (v - v);
  }
  return lane_bits(eq(none, Vec(0.0f))) == (1u << kLanes) - 1;
}

// A row of x, each group from a place of its own on.
template <class T>
void place_row(const CodesTask& task, std::int64_t row) {
  const CodesHeader& header = task.args.header();
  const T* const x = static_cast<const T*>(task.args.x) + row * task.args.x_stride;
  auto* const to = static_cast<float*>(task.x) + row * header.places();
  for (std::int64_t g = 0; g < header.groups; ++g) {
    const std::int64_t first = g * header.group, left = header.columns - first;
    const std::int64_t count = left < header.group ? left : header.group;
    float* const at = to + g * header.stretch;
    for (std::int64_t k = 0; k < count; ++k) at[k] = to_float(x[first + k]);
    for (std::int64_t k = count; k < header.stretch; ++k) at[k] = 0;
  }
  if (header.masks == 0) return;
  task.x_finite[row] = is_finite(x, header.columns);
  if (task.x_finite[row]) return;
  for (std::int64_t k = 0; k < header.places(); ++k) {
    if (!std::isfinite(to[k])) to[k] = 0;
  }
}

}  // namespace

void widen_rows(const CodesTask& task, std::int64_t begin, std::int64_t end) {
#if defined(STROP_FLOAT_TILES)
  if (suits_float_tiles(task)) {
    for (std::int64_t row = begin; row < end; ++row) place_in_tiles(task, row);
    return;
  }
#endif
  by_narrow_dtype(task.args.dtype, [&]<class T>() {
    for (std::int64_t row = begin; row < end; ++row) place_row<T>(task, row);
  });
}

void multiply_exact(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end) {
#if defined(STROP_FLOAT_TILES)
  if (suits_float_tiles(task)) return multiply_by_float_tiles(task, scratch, begin, end);
#endif
  for_panels(task, scratch, begin, end, [](const PanelBlock& block) {
    multiply_panel(block);
    add_not_finite(block);
  });
}

}  // namespace strop::linear::simd::STROP_ISA
