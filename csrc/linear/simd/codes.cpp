// Products of integers: codes of x times codes of a weight, compiled once per instruction set. See
// Note [Products of codes on a CPU].

#include "linear/simd/dots.h"
#include "linear/simd/panel_rows.h"

namespace strop::linear::simd::STROP_ISA {
namespace {

// Sums in 64 bits: this part's are added to those before.
F32 with_parts(std::int64_t* sums, I32 sum, bool first) {
  F32 all;
  for (int lane = 0; lane < kLanes; ++lane) {
    sums[lane] = (first ? 0 : sums[lane]) + sum[lane];
    all[lane] = static_cast<float>(sums[lane]);
  }
  return all;
}

// The sums of one row over a whole group, to `floats`. What both zero points add to each product is
// taken out of them.
STROP_INLINE void finish_group(const PanelBlock& block, std::int64_t row, std::int64_t group,
                               const I32 (&sum)[kRowVectors]) {
  const CodesHeader& header = block.header;
  const std::int64_t x_row = block.row + row;
  const std::int32_t x_zero = block.task.x_zero[x_row];
  const float* const scale = block.numbers<float>(header.scales, group);
  float* const to = block.floats + row * kPanelRows;
  const std::int64_t part = group % header.parts;
  for (int i = 0; i < kRowVectors; ++i) {
    const auto integers = [&](std::int64_t place) {
      return load_unaligned<I32>(block.numbers<std::int32_t>(place, group) + i * kLanes);
    };
    I32 v = sum[i];
    if (x_zero != 0) v -= broadcast(x_zero) * integers(header.sums);
    if (block.task.x_sums != nullptr) {
      const I32 zero = header.zeros != 0 ? integers(header.zeros)
                                         : broadcast(static_cast<std::int32_t>(header.same_zero));
      v -= broadcast(block.task.x_sums[x_row * header.groups + group]) * zero;
    }
    F32 f = __builtin_convertvector(v, F32);
    if (header.parts > 1) f = with_parts(block.wide + row * kPanelRows + i * kLanes, v, part == 0);
    if (part + 1 < header.parts) continue;
    const F32 s = load_unaligned<F32>(scale + i * kLanes);
    F32 all =
        header.groups == header.parts ? f * (broadcast(block.task.x_scale[x_row]) * s) : f * s;
    if (group >= header.parts) all = load_unaligned<F32>(to + i * kLanes) + all;
    store_unaligned(to + i * kLanes, all);
  }
}

// Places [begin, end) of a panel, with the codes from `begin` on.
template <class Code>
struct Stretch {
  std::int64_t begin;
  std::int64_t end;
  const Code* codes;
};

template <class Source, int kRows>
void multiply_tile(const PanelBlock& block, std::int64_t row,
                   const Stretch<typename Source::Code>& stretch) {
  const CodesHeader& header = block.header;
  const std::int64_t places = header.places();
  const auto* const x =
      static_cast<const typename Source::X*>(block.task.x) + (block.row + row) * places;
  const auto* w = stretch.codes;
  for (std::int64_t k = stretch.begin; k < stretch.end;) {
    const std::int64_t group = k / header.stretch, group_end = (group + 1) * header.stretch;
    const std::int64_t end = group_end < stretch.end ? group_end : stretch.end;
    Totals<kRows> total;
    Source::template sums<kRows>(x, places, k, end, w, total);
    for (int r = 0; r < kRows; ++r) {
      std::int32_t* const kept = block.integers + (row + r) * kPanelRows;
      for (int i = 0; i < kRowVectors; ++i) {
        if (k > group * header.stretch) total[r][i] += load_unaligned<I32>(kept + i * kLanes);
        if (end < group_end) store_unaligned(kept + i * kLanes, total[r][i]);
      }
      if (end == group_end) finish_group(block, row + r, group, total[r]);
    }
    k = end;
  }
}

// Tiles of kRows rows, then of fewer.
template <class Source, int kRows = Source::kMaxRows>
void multiply_rows(const PanelBlock& block, const Stretch<typename Source::Code>& stretch,
                   std::int64_t row = 0) {
  for (; block.rows - row >= kRows; row += kRows) {
    multiply_tile<Source, kRows>(block, row, stretch);
  }
  if constexpr (kRows > 1) {
    if (row < block.rows) multiply_rows<Source, kRows - 1>(block, stretch, row);
  }
}

template <class Source>
bool multiply_in_place(const PanelBlock& block, const std::uint8_t* codes) {
  if constexpr (!std::is_void_v<Source>) {
    if (!in_place<Source>(block.task.args.rows)) return false;
    using Code = typename Source::Code;
    multiply_rows<Source>(block, {0, block.header.places(), reinterpret_cast<const Code*>(codes)});
    return true;
  }
  return false;
}

void multiply_panel(const PanelBlock& block, void* decoded) {
  const CodesHeader& header = block.header;
  const bool nibbles = header.store == CodeStore::kNibbles;
  const std::uint8_t* const codes = block.codes();
  if (nibbles ? multiply_in_place<NibblesInPlace>(block, codes)
              : multiply_in_place<BytesInPlace>(block, codes)) {
    return;
  }
  auto* const to = static_cast<Decoded::Code*>(decoded);
  for (std::int64_t k = 0; k < header.places(); k += kDecodedColumns) {
    const std::int64_t left = header.places() - k;
    const std::int64_t count = left < kDecodedColumns ? left : kDecodedColumns;
    if (nibbles) {
      decode_nibbles(codes + k / 2 * kPanelRows, count, to);
    } else {
      decode_bytes(codes + k * kPanelRows, count, to);
    }
    multiply_rows<Decoded>(block, {k, k + count, to});
  }
}

}  // namespace

void multiply_codes(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end) {
  for_panels(task, scratch, begin, end, multiply_panel);
}

}  // namespace strop::linear::simd::STROP_ISA
