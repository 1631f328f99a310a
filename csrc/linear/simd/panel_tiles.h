#pragma once

// Tiles of rows of float x times a panel of codes. Compiled once per instruction set.
//
// The first tile of rows decodes the panel as it goes, so that ports which multiply nothing have
// work meanwhile, and leaves the values to the others in scratch, if there are any.

#include <type_traits>

#include "linear/simd/decode.h"
#include "linear/simd/planes.h"
#include "linear/simd/spread.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Rows of a tile: sums, a column of the panel and an element of x fit the registers.
inline constexpr int kMaxRows = kLanes == 4 ? 2 : kLanes == 8 ? 6 : 12;

// Panels that rows of further tiles are multiplied with at once, so that elements of x are loaded
// for two vectors: ports that load 512 bits are as few as those that multiply them.
inline constexpr int kPanels = kLanes == 16 ? 2 : 1;

inline constexpr std::int64_t kFloatColumns = kDecodedColumns / 2 / kPanels;
inline constexpr int kStepColumns = 4;

// Columns that each have sums of their own, of so many vectors: FMAs wait for others that are four
// cycles old, of which two begin in a cycle.
constexpr int turns_of(int rows, int vectors) {
  return rows == 1 || vectors < 4 ? 4 : vectors < 6 ? 2 : 1;
}

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

// kRows rows of x. Three by three they share a register: x86 has addresses of one register and
// another, once or twice.
template <int kRows>
class XRows {
 public:
  STROP_MEMBER XRows(const PanelBlock& block, std::int64_t row, std::int64_t place)
      : stride_(block.header.places()) {
    const auto* const x = static_cast<const float*>(block.task.x);
    unrolled<kPointers>([&](auto i) STROP_UNROLLED {
      at_[i] = x + (block.row + row + 3 * i) * stride_ + place;
      keep_in_register(at_[i]);
    });
  }
  // Column kColumn of row kRow.
  template <int kRow, int kColumn>
  STROP_MEMBER F32 element() const {
    return broadcast_from(at_[kRow / 3] + kRow % 3 * stride_ + kColumn);
  }
  // A share of the lines that `rows` further rows have there: in four steps all of them.
  STROP_MEMBER void fetch(std::int64_t place, std::int64_t rows) const {
    const float* const from = at_[0] + (rows + place / kStepColumns % 4) * stride_;
    unrolled<(kRows + 3) / 4>([&](auto i) STROP_UNROLLED { prefetch(from + 4 * i * stride_); });
  }
  STROP_MEMBER void go_on() {
    unrolled<kPointers>([&](auto i) STROP_UNROLLED {
      at_[i] += kStepColumns;
      keep_in_register(at_[i]);
    });
  }

 private:
  static constexpr int kPointers = (kRows + 2) / 3;

  const float* at_[kPointers];
  std::int64_t stride_;
};

// What sums are multiplied with.
struct Scales {
  F32 factor;
  F32 each[kRowVectors];
};

STROP_INLINE Scales scales_of(const PanelBlock& block, std::int64_t group, float factor) {
  Scales scales = {.factor = broadcast(factor), .each = {}};
  const float* const from = block.numbers<float>(block.header.scales, group);
  for (int i = 0; i < kRowVectors; ++i) scales.each[i] = load_unaligned<F32>(from + i * kLanes);
  return scales;
}
STROP_INLINE Scales no_scales() {
  Scales scales = {.factor = broadcast(1.0f), .each = {}};
  for (int i = 0; i < kRowVectors; ++i) scales.each[i] = broadcast(1.0f);
  return scales;
}

// Sums of rows of x times panels, from the places of one group.
template <int kRows, int kPanels = 1>
class RowSums {
 public:
  static constexpr int kVectors = kPanels * kRowVectors;

  // Adds column kColumn of x times w.
  template <int kColumn>
  STROP_MEMBER void add(const XRows<kRows>& x, const F32 (&w)[kVectors]) {
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      const F32 element = x.template element<r, kColumn>();
      unrolled<kVectors>([&](auto i) STROP_UNROLLED {
        F32& to = sum_[kColumn % kTurns][r][i];
        to = multiply_add(w[i], element, to);
      });
    });
  }

  // Adds all of a panel's, scaled, to what there is, or begins with it.
  template <int kPanel = 0>
  STROP_MEMBER void put(float* to, const Scales& scales, bool first) const {
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
        float* const at = to + r * kPanelRows + i * kLanes;
        const F32 found = all(r, kPanel * kRowVectors + i) * scales.factor;
        store_unaligned(at, first ? found * scales.each[i]
                                  : multiply_add(found, scales.each[i], load_unaligned<F32>(at)));
      });
    });
  }

 private:
  static constexpr int kTurns = turns_of(kRows, kRows* kVectors);

  STROP_MEMBER F32 all(int row, int vector) const {
    const auto sum = [&](int turn) STROP_UNROLLED { return sum_[turn][row][vector]; };
    if constexpr (kTurns == 1) return sum(0);
    if constexpr (kTurns == 2) return sum(0) + sum(1);
    if constexpr (kTurns == 4) return (sum(0) + sum(1)) + (sum(2) + sum(3));
  }

  F32 sum_[kTurns][kRows][kVectors] = {};
};

// A stretch of a panel, and where its values are left.
struct FloatStretch {
  Stretch<std::uint8_t> codes;
  float* values = nullptr;
  float factor = 1;
  bool scaled = false;  // those; else the sums are
};

// What the first tile leaves to others.
enum class Left { kNothing, kValues, kScaledValues };

// The first kRows rows of x.
template <class Decoder, int kRows, Left kLeft>
void decode_tile(const PanelBlock& block, const Decoder& given, const FloatStretch& stretch) {
  constexpr int kColumns = Decoder::kColumns, kSteps = kStepColumns / kColumns;
  constexpr int kBytes = kSteps * Decoder::kBytes;
  const CodesHeader& header = block.header;
  // Few numbers are copied, which registers then hold, since no store can alter them.
  std::conditional_t<sizeof(Decoder) <= 64, const Decoder, const Decoder&> decoder = given;
  const F32 factor = broadcast(decoder.factor());
  const std::uint8_t* codes = stretch.codes.codes;
  XRows<kRows> x(block, 0, stretch.codes.begin);
  float* to = stretch.values;
  std::int64_t k = stretch.codes.begin;
  for (std::int64_t group = k / header.stretch; k < stretch.codes.end; ++group) {
    const bool first = k == 0;
    const std::int64_t group_end = (group + 1) * header.stretch;
    const std::int64_t end = group_end < stretch.codes.end ? group_end : stretch.codes.end;
    const Group numbers = group_of(block, group);
    RowSums<kRows> sums;
    for (; k < end; k += kStepColumns, codes += kBytes) {
      if constexpr (kLeft == Left::kNothing) prefetch(codes + kAhead);
      unrolled<kSteps>([&](auto step) STROP_UNROLLED {
        F32 values[kColumns][kRowVectors];
        decoder.template decode<step>(codes, values);
        unrolled<kColumns>([&](auto c) STROP_UNROLLED {
          constexpr int kAt = Decoder::column(step, c);
          unrolled<kRowVectors>([&](auto i) STROP_UNROLLED {
            if constexpr (Decoder::kZero) values[c][i] = values[c][i] - numbers.zero[i];
            if constexpr (kLeft == Left::kScaledValues) {
              values[c][i] = values[c][i] * factor * numbers.scale[i];
            }
            if constexpr (kLeft != Left::kNothing) {
              store_unaligned(to + kAt * kPanelRows + i * kLanes, values[c][i]);
            }
          });
          sums.template add<kAt>(x, values[c]);
        });
      });
      x.go_on();
      if constexpr (kLeft != Left::kNothing) to += kStepColumns * kPanelRows;
    }
    const Scales scales =
        kLeft == Left::kScaledValues ? no_scales() : scales_of(block, group, decoder.factor());
    sums.put(block.floats, scales, first);
  }
}

// kRows further ones times the values.
template <int kRows, int kCount>
void multiply_tile(const PanelBlock* blocks, std::int64_t row, const FloatStretch* stretches) {
  const FloatStretch& stretch = stretches[0];
  const std::int64_t end = stretch.codes.end, length = blocks[0].header.stretch;
  const std::int64_t further = row + 2 * kRows <= blocks[0].rows ? kRows : 0;
  XRows<kRows> x(blocks[0], row, stretch.codes.begin);
  std::int64_t k = stretch.codes.begin, place = 0;
  for (std::int64_t group = k / length; k < end; ++group) {
    const bool first = k == 0;
    const std::int64_t group_end = stretch.scaled ? end : (group + 1) * length;
    RowSums<kRows, kCount> sums;
    for (; k < group_end && k < end; k += kStepColumns, place += kStepColumns * kPanelRows) {
      unrolled<kStepColumns>([&](auto c) STROP_UNROLLED {
        F32 w[kCount * kRowVectors];
        unrolled<kCount * kRowVectors>([&](auto i) STROP_UNROLLED {
          const float* const panel = stretches[i / kRowVectors].values + place;
          w[i] = load_unaligned<F32>(panel + c * kPanelRows + i % kRowVectors * kLanes);
        });
        sums.template add<c>(x, w);
      });
      if constexpr (kCount * kRowVectors > 1) x.fetch(k, further);
      x.go_on();
    }
    unrolled<kCount>([&](auto i) STROP_UNROLLED {
      const Scales scales =
          stretch.scaled ? no_scales() : scales_of(blocks[i], group, stretch.factor);
      sums.template put<i>(blocks[i].floats + row * kPanelRows, scales, first);
    });
  }
}

// Calls function(Number<count>{}) for a count of 1 to kMax.
template <int kMax, int kCount = 1, class Function>
STROP_INLINE void by_count(std::int64_t count, Function function) {
  if constexpr (kCount < kMax) {
    if (count > kCount) return by_count<kMax, kCount + 1>(count, function);
  }
  function(Number<kCount>{});
}

// Rows that are one tile.
template <class Decoder>
void multiply_at_once(const PanelBlock& block, const Decoder& decoder) {
  const std::int64_t places = block.header.places();
  PanelCodes codes(block, block.spread);
  const std::int64_t step = codes.step(places);
  for (std::int64_t k = 0; k < places; k += step) {
    const std::int64_t end = k + step < places ? k + step : places;
    const FloatStretch stretch = {.codes = {k, end, codes.take(k, end)}};
    by_count<kMaxRows>(block.rows, [&](auto count) STROP_UNROLLED {
      decode_tile<Decoder, count, Left::kNothing>(block, decoder, stretch);
    });
  }
}

// Tiles of kMaxRows rows, after a first one with what these leave.
template <int kCount, class Decoder>
void multiply_by_tiles(const PanelBlock* blocks, const Decoder& decoder) {
  const CodesHeader& header = blocks[0].header;
  const std::int64_t places = header.places(), rows = blocks[0].rows;
  const std::int64_t first = (rows - 1) % kMaxRows + 1;
  const bool scaled = header.stretch < kFloatColumns;
  PanelCodes codes[] = {PanelCodes(blocks[0], blocks[0].spread),
                        PanelCodes(blocks[kCount - 1], blocks[0].spread)};
  FloatStretch stretches[kCount];
  for (std::int64_t k = 0; k < places; k += kFloatColumns) {
    const std::int64_t end = k + kFloatColumns < places ? k + kFloatColumns : places;
    for (int i = 0; i < kCount; ++i) {
      const PanelBlock& block = blocks[i];
      stretches[i] = {
          .codes = {k, end, codes[i].take(k, end)},
          .values = reinterpret_cast<float*>(block.decoded) + i * kFloatColumns * kPanelRows,
          .factor = decoder.factor(),
          .scaled = scaled};
      if (!codes[i].masked()) {
        stretches[i].codes.ahead = {block.codes() + header.bytes_of(end),
                                    header.bytes_of(kFloatColumns)};
      }
      stretches[i].codes.ahead.fetch(0, first, rows);
      by_count<kMaxRows>(first, [&](auto count) STROP_UNROLLED {
        scaled ? decode_tile<Decoder, count, Left::kScaledValues>(block, decoder, stretches[i])
               : decode_tile<Decoder, count, Left::kValues>(block, decoder, stretches[i]);
      });
    }
    for (std::int64_t row = first; row < rows; row += kMaxRows) {
      for (const FloatStretch& stretch : stretches) stretch.codes.ahead.fetch(row, kMaxRows, rows);
      multiply_tile<kMaxRows, kCount>(blocks, row, stretches);
    }
  }
}

// Panels [begin, end) with blocks of rows. Calls put(blocks, count) for those that are multiplied.
template <class Decoder, class Put>
void multiply_panels(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                     std::int64_t end, Put put) {
  const Decoder decoder(task.args.header());
  const auto multiply = [&](PanelBlock(&blocks)[2], int count) STROP_UNROLLED {
    if (count == 2) blocks[1].floats = reinterpret_cast<float*>(blocks[0].wide);
    if (blocks[0].rows <= kMaxRows) {
      for (int i = 0; i < count; ++i) multiply_at_once(blocks[i], decoder);
    } else if (count == kPanels) {
      multiply_by_tiles<kPanels>(blocks, decoder);
    } else {
      multiply_by_tiles<1>(blocks, decoder);
    }
    put(blocks, count);
  };
  for_blocks<kPanels>(task, scratch, begin, end, multiply);
}

}  // namespace strop::linear::simd::STROP_ISA
