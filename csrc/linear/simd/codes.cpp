// Products of integers: codes of x times codes of a weight, compiled once per instruction set. See
// Note [Products of codes on a CPU].

#include "linear/simd/dots.h"
#include "linear/simd/grouped_tiles.h"
#include "linear/simd/integer_sums.h"
#include "linear/simd/kept_dots.h"
#include "linear/simd/panel_rows.h"
#include "linear/simd/spread.h"

namespace strop::linear::simd::STROP_ISA {
namespace {

template <class Source, int kRows>
void multiply_tile(const PanelBlock& block, std::int64_t row,
                   const Stretch<typename Source::Code>& stretch) {
  const std::int64_t places = block.header.places();
  const auto* const x =
      static_cast<const typename Source::X*>(block.task.x) + (block.row + row) * places;
  const auto* w = stretch.codes;
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const Segment segment = segment_at(block.header, k, stretch.end);
    Totals<kRows> total;
    Source::template sums<kRows>(x, places, k, segment.end, w, total);
    add_segment(block, row, segment, total);
    k = segment.end;
  }
}

// Tiles of kRows rows, then of fewer.
template <class Source, int kRows = Source::kMaxRows>
void multiply_rows(const PanelBlock& block, const Stretch<typename Source::Code>& stretch,
                   std::int64_t row = 0) {
  for (; block.rows - row >= kRows; row += kRows) {
    stretch.ahead.fetch(row, kRows, block.rows);
    multiply_tile<Source, kRows>(block, row, stretch);
  }
  if constexpr (kRows > 1) {
    if (row < block.rows) multiply_rows<Source, kRows - 1>(block, stretch, row);
  }
}

// Codes as they lie. A stretch of columns stays in the first cache where tiles of rows pass by.
template <class Source>
void multiply_in_place(const PanelBlock& block) {
  using Code = typename Source::Code;
  const std::int64_t places = block.header.places();
  PanelCodes codes(block, block.spread);
  const bool once = block.rows <= Source::kMaxRows;
  const std::int64_t step = codes.step(once ? places : kColumnsInCache);
  for (std::int64_t k = 0; k < places; k += step) {
    const std::int64_t end = k + step < places ? k + step : places;
    const auto* const from = reinterpret_cast<const Code*>(codes.take(k, end));
    Stretch<Code> stretch = {k, end, from};
    if (!once && !codes.masked()) {
      stretch.ahead = {block.codes() + end * Source::kColumnBytes, step * Source::kColumnBytes};
    }
    multiply_rows<Source>(block, stretch);
  }
}

void multiply_decoded(const PanelBlock& block) {
  const CodesHeader& header = block.header;
  auto* const to = reinterpret_cast<Decoded::Code*>(block.decoded);
  PanelCodes codes(block, block.spread);
  for (std::int64_t k = 0; k < header.places(); k += kDecodedColumns) {
    const std::int64_t left = header.places() - k;
    const std::int64_t count = left < kDecodedColumns ? left : kDecodedColumns;
    decode(header.store, codes.take(k, k + count), count, to);
    Stretch<Decoded::Code> stretch = {k, k + count, to};
    if (!codes.masked()) {
      stretch.ahead = {block.codes() + header.bytes_of(k + count),
                       header.bytes_of(kDecodedColumns)};
    }
    multiply_rows<Decoded>(block, stretch);
  }
}

void multiply_panel(const PanelBlock& block) {
#if defined(STROP_KEPT_DOTS)
  if (suits_kept_dots(block)) return multiply_kept_dots(block);
#endif
  const std::int64_t rows = block.task.args.rows;
  if (block.header.store == CodeStore::kNibbles) {
    if constexpr (!std::is_void_v<NibblesInPlace>) {
      if (in_place<NibblesInPlace>(rows)) return multiply_in_place<NibblesInPlace>(block);
    }
  } else if (!kDecodesBytes || in_place<BytesInPlace>(rows)) {
    return multiply_in_place<BytesInPlace>(block);
  }
  multiply_decoded(block);
}

}  // namespace

void multiply_codes(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end) {
#if defined(STROP_TILES)
  if (suits_tiles(task)) return multiply_by_tiles(task, scratch, begin, end);
#endif
  for_panels(task, scratch, begin, end, multiply_panel);
}

}  // namespace strop::linear::simd::STROP_ISA
