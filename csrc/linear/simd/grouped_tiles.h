#pragma once

// Products of integers by AMX whose scales are of short groups. Compiled once per instruction set;
// there is nothing here for sets without AMX.
//
// A group of 64 columns is one product of tiles, 16 cycles; what becomes of its 256 sums are 16
// conversions, multiplications and additions, 24 cycles of two ports. A step is one group of two
// panels by 16 rows of x: while it is multiplied, the sums of the step before are stored, and those
// of the one before that become floats. (A tile that is stored right after its product keeps the
// unit waiting: 15 ns, not 10, for a product and its stores.)

#include "linear/simd/integer_tiles.h"

#if defined(STROP_TILES)

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr std::int64_t kChunkColumns = 256;

// Whether chunks have whole groups, whose sums are right but for the zero point of x.
STROP_INLINE bool suits_grouped_tiles(const CodesTask& task) {
  const CodesHeader& header = task.args.header();
  return header.groups > 1 && header.parts == 1 && header.stretch <= kChunkColumns &&
         (header.bytes_less_zero || task.x_sums == nullptr);
}

// Two factors whose product with the halves of a sum is what the zero point of x takes off.
STROP_INLINE std::int32_t halves_of_zero(std::int32_t zero) {
  const auto off = static_cast<std::uint32_t>(-zero);
  return static_cast<std::int32_t>((off & 0xffff) | off << (16 + 7));
}
STROP_INLINE I32 halves_of_sums(I32 sums) { return (sums & broadcast(127)) | (sums >> 7 << 16); }

STROP_INLINE I32 add_products_of_words(I32 sum, I32 a, I32 b) {
  return bit_cast<I32>(
      _mm512_dpwssd_epi32(bit_cast<__m512i>(sum), bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
}

// Sums of a step are tiles 0 and 1, or 2 and 3 where its number is odd.
template <bool kOdd>
STROP_INLINE void clear_sums() {
  if constexpr (kOdd) {
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_zero(0);
    _tile_zero(1);
  }
}
template <int kPanels, bool kOdd>
STROP_INLINE void add_products() {
  if constexpr (kOdd) {
    _tile_dpbssd(2, 6, 4);
    if constexpr (kPanels == 2) _tile_dpbssd(3, 6, 5);
  } else {
    _tile_dpbssd(0, 6, 4);
    if constexpr (kPanels == 2) _tile_dpbssd(1, 6, 5);
  }
}
template <int kPanels, bool kOdd>
STROP_INLINE void store_sums(std::int32_t* first, std::int32_t* second) {
  if constexpr (kOdd) {
    _tile_stored(2, first, kTileBytes);
    if constexpr (kPanels == 2) _tile_stored(3, second, kTileBytes);
  } else {
    _tile_stored(0, first, kTileBytes);
    if constexpr (kPanels == 2) _tile_stored(1, second, kTileBytes);
  }
}

// One group of up to 16 rows of x.
struct GroupStep {
  std::int64_t row = 0;  // of the block
  std::int64_t rows = 0;
  std::int64_t group = 0;
};

// Multiplies steps after one another, and adds their sums to the floats of a block.
template <int kPanels, bool kXZero>
class GroupSteps {
 public:
  explicit GroupSteps(const PanelBlock (&blocks)[2]) : blocks_(blocks) {
    for (int panel = 0; panel < kPanels; ++panel) {
      // (-0 plus any number is that number)
      for (std::int64_t row = 0; row < blocks[panel].rows; ++row) {
        store_unaligned(blocks[panel].floats + row * kPanelRows,
                        bit_cast<F32>(broadcast(0x80000000u)));
      }
    }
    for (std::int64_t row = 0; kXZero && row < blocks[0].rows; ++row) {
      blocks[0].integers[row] = halves_of_zero(blocks[0].task.x_zero[blocks[0].row + row]);
    }
  }

  // `panels` and `x` are the step's tiles. What is there of one in `held` was loaded before.
  STROP_MEMBER void multiply(const GroupStep& step, const PairRun& tiles, bool held) {
    odd_ ? multiply<true>(step, tiles, held) : multiply<false>(step, tiles, held);
  }
  // The last two steps.
  STROP_MEMBER void finish() { odd_ ? finish<true>() : finish<false>(); }

 private:
  template <bool kOdd>
  STROP_MEMBER void multiply(const GroupStep& step, const PairRun& tiles, bool held) {
    clear_sums<kOdd>();
    const std::uint8_t* x = tiles.x[0];
    for (std::int64_t i = 0, at = 0; i < tiles.count; ++i, at += tiles.width * kPanelRows) {
      if (!held) {
        _tile_loadd(4, tiles.panels[0] + at, kTileBytes);
        if constexpr (kPanels == 2) _tile_loadd(5, tiles.panels[1] + at, kTileBytes);
      }
      _tile_loadd(6, x, tiles.width);
      x += tiles.bytes[0];
      add_products<kPanels, kOdd>();
    }
    store<!kOdd>();
    add(stored_, sums<kOdd>());
    stored_ = multiplied_;
    multiplied_ = step;
    odd_ = !kOdd;
  }
  template <bool kOdd>
  STROP_MEMBER void finish() {
    store<!kOdd>();
    add(stored_, sums<kOdd>());
    add(multiplied_, sums<!kOdd>());
  }

  template <bool kOdd>
  STROP_MEMBER std::int32_t* sums() const {
    return blocks_[0].steps + (kOdd ? kGroupSums : 0);
  }
  template <bool kOdd>
  STROP_MEMBER void store() const {
    store_sums<kPanels, kOdd>(sums<kOdd>(), sums<kOdd>() + kGroupSums / 2);
  }

  STROP_MEMBER void add(const GroupStep& step, const std::int32_t* sums) const {
    for (int panel = 0; panel < kPanels; ++panel) {
      const PanelBlock& block = blocks_[panel];
      const auto scale = load_unaligned<F32>(block.numbers<float>(block.header.scales, step.group));
      const I32 halves = halves_of_sums(
          load_unaligned<I32>(block.numbers<std::int32_t>(block.header.sums, step.group)));
      float* const floats = block.floats + step.row * kPanelRows;
      const std::int32_t* const zeros = blocks_[0].integers + step.row;
      const std::int32_t* const from = sums + panel * (kGroupSums / 2);
      const auto add_row = [&](std::int64_t row) STROP_UNROLLED {
        float* const to = floats + row * kPanelRows;
        I32 sum = load_unaligned<I32>(from + row * kPanelRows);
        if constexpr (kXZero) sum = add_products_of_words(sum, broadcast(zeros[row]), halves);
        store_unaligned(to, load_unaligned<F32>(to) + __builtin_convertvector(sum, F32) * scale);
      };
      if (step.rows == kTileRows) {
        unrolled<kTileRows>([&](auto row) STROP_UNROLLED { add_row(row); });
      } else {
        for (std::int64_t row = 0; row < step.rows; ++row) add_row(row);
      }
    }
  }

  const PanelBlock (&blocks_)[2];
  GroupStep stored_, multiplied_;
  bool odd_ = false;
};

template <int kPanels, bool kXZero>
void multiply_groups(const PanelBlock (&blocks)[2], PairShapes& shapes) {
  const PanelBlock& block = blocks[0];
  const CodesHeader& header = block.header;
  const TiledCodes rows = {block.task};
  // Of many rows the last tile has 16 as well, which are not all looked at: what follows them is
  // memory of x.
  const std::int64_t tile_rows = block.rows < kTileRows ? block.rows : kTileRows;
  shapes.shape_each(tile_rows, tile_rows, rows.width());
  ChunkedCodes codes[2] = {ChunkedCodes(blocks[0]), ChunkedCodes(blocks[kPanels - 1])};
  const std::int64_t step = kChunkColumns / header.stretch * header.stretch;
  GroupSteps<kPanels, kXZero> steps(blocks);
  PairAhead ahead(block, header.groups * ((block.rows + kTileRows - 1) / kTileRows));
  for (std::int64_t k = 0; k < header.places(); k += step) {
    const std::int64_t left = header.places() - k, end = k + (left < step ? left : step);
    PairRun run = {.panels = {},
                   .x = {},
                   .bytes = {},
                   .width = rows.width(),
                   .count = header.stretch / rows.width()};
    for (int panel = 0; panel < kPanels; ++panel) run.panels[panel] = codes[panel].take(k, end);
    for (std::int64_t place = k; place < end; place += header.stretch) {
      for (std::int64_t row = 0; row < block.rows; row += kTileRows) {
        ahead.fetch();
        const std::int64_t here = rows.rows(block.row + row);
        run.x[0] = rows.at(block.row + row) + place * here;
        run.bytes[0] = rows.width() * here;
        steps.multiply({.row = row, .rows = here, .group = place / header.stretch}, run,
                       row > 0 && run.count == 1);
      }
      for (int panel = 0; panel < kPanels; ++panel)
        run.panels[panel] += header.stretch * kPanelRows;
    }
  }
  steps.finish();
}

template <int kPanels>
void multiply_tile_pair(const PanelBlock (&blocks)[2], PairShapes& shapes) {
  const CodesTask& task = blocks[0].task;
  if (suits_whole_panels(blocks[0].header)) {
    multiply_whole_panels<kPanels>(blocks, shapes);
  } else if (!suits_grouped_tiles(task)) {
    multiply_chunks<kPanels>(blocks, shapes);
  } else if (blocks[0].header.activations == Activations::kInt8) {
    multiply_groups<kPanels, false>(blocks, shapes);  // (all zero points are 0)
  } else {
    multiply_groups<kPanels, true>(blocks, shapes);
  }
  put_blocks<kPanels>(blocks);
}

void multiply_by_tiles(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                       std::int64_t end) {
  for_panel_pairs(task, scratch, begin, end,
                  [](PanelBlock(&blocks)[2], int count, PairShapes& shapes) STROP_UNROLLED {
                    count == 2 ? multiply_tile_pair<2>(blocks, shapes)
                               : multiply_tile_pair<1>(blocks, shapes);
                  });
}

}  // namespace strop::linear::simd::STROP_ISA

#endif
