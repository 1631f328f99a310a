#pragma once

// Products of integers by AMX whose scales are of short groups. Compiled once per instruction set;
// there is nothing here for sets without AMX.
//
// A group of 64 columns is one product of tiles, 16 cycles; what becomes of its 256 sums are 16
// conversions, multiplications and additions, 24 cycles of two ports. These wait in the first cache
// for some groups, so that a row's floats are loaded and stored once for all of them, and those of
// the rows before are finished while the tiles' unit works on these.

#include "linear/simd/integer_tiles.h"

#if defined(STROP_TILES)

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr std::int64_t kChunkColumns = 256;

// Whether chunks have whole groups, whose sums are right but for the zero point of x.
STROP_INLINE bool suits_grouped_tiles(const CodesTask& task) {
  const CodesHeader& header = task.args.header();
  return header.groups > 1 && header.parts == 1 && header.stretch <= kChunkColumns &&
         (is_less_zero(header) || task.x_sums == nullptr);
}

// Groups that are multiplied with some rows of x: what their sums are.
struct GroupRun {
  std::int64_t row;  // of the block
  std::int64_t rows;
  std::int64_t group;
  std::int64_t count;
  const std::int32_t* sums;  // [count][panel][row][16]
};

// Two factors whose product with two halves of a sum is that with the zero point of x.
STROP_INLINE I32 halves_of_zero(std::int32_t zero) {
  return broadcast((-zero & 0xffff) | static_cast<std::int32_t>(static_cast<std::uint32_t>(-zero)
                                                                << 23));
}
STROP_INLINE I32 halves_of_sums(I32 sums) { return (sums & broadcast(127)) | (sums >> 7 << 16); }

// Rows [begin, end) of a run, by one panel: sums to floats.
template <int kCount, bool kXZero>
void finish_groups(const PanelBlock& block, const GroupRun& run, const std::int32_t* sums,
                   std::int64_t begin, std::int64_t end) {
  const CodesHeader& header = block.header;
  F32 scale[kCount];
  I32 halves[kCount];
  unrolled<kCount>([&](auto g) STROP_UNROLLED {
    scale[g] = load_unaligned<F32>(block.numbers<float>(header.scales, run.group + g));
    halves[g] = halves_of_sums(
        load_unaligned<I32>(block.numbers<std::int32_t>(header.sums, run.group + g)));
  });
  for (std::int64_t row = begin; row < end; ++row) {
    float* const to = block.floats + (run.row + row) * kPanelRows;
    const std::int32_t* const from = sums + row * kPanelRows;
    const I32 zero =
        kXZero ? halves_of_zero(block.task.x_zero[block.row + run.row + row]) : I32{};
    // (-0 added to any number leaves it as it is)
    F32 all = run.group == 0 ? broadcast(-0.0f) : load_unaligned<F32>(to);
    unrolled<kCount>([&](auto g) STROP_UNROLLED {
      I32 sum = load_unaligned<I32>(from + g * kGroupSums);
      if constexpr (kXZero) {
        sum = bit_cast<I32>(_mm512_dpwssd_epi32(bit_cast<__m512i>(sum), bit_cast<__m512i>(zero),
                                                bit_cast<__m512i>(halves[g])));
      }
      all = all + __builtin_convertvector(sum, F32) * scale[g];
    });
    store_unaligned(to, all);
  }
}

template <int kPanels, bool kXZero>
class GroupedSums {
 public:
  explicit GroupedSums(const PanelBlock (&blocks)[2]) : blocks_(blocks) {}

  // Multiplies a run's rows, and finishes those of the run before.
  template <bool kManyRows>
  STROP_MEMBER void multiply(PairRun& products, const GroupRun& groups) {
    std::int32_t* sums = blocks_[0].groups + (odd_ ? kGroupsAtOnce * kGroupSums : 0);
    GroupRun next = groups;
    next.sums = sums;
    for (std::int64_t i = 0; i < groups.count; ++i, sums += kGroupSums) {
      clear_pair();
      add_products<kPanels, kManyRows>(products, [] {});
      std::int32_t* const each[2] = {sums, sums + kGroupSums / 2};
      store_pair<kPanels, kManyRows>(each);
      finish(before_.rows * i / groups.count, before_.rows * (i + 1) / groups.count);
    }
    before_ = next;
    odd_ = !odd_;
  }
  STROP_MEMBER void finish_all() const { finish(0, before_.rows); }

 private:
  STROP_MEMBER void finish(std::int64_t begin, std::int64_t end) const {
    for (int panel = 0; panel < kPanels; ++panel) {
      const std::int32_t* const sums = before_.sums + panel * (kGroupSums / 2);
      const PanelBlock& block = blocks_[panel];
      switch (before_.count) {
        case 1: finish_groups<1, kXZero>(block, before_, sums, begin, end); break;
        case 2: finish_groups<2, kXZero>(block, before_, sums, begin, end); break;
        case 3: finish_groups<3, kXZero>(block, before_, sums, begin, end); break;
        case 4: finish_groups<4, kXZero>(block, before_, sums, begin, end); break;
      }
    }
  }

  const PanelBlock (&blocks_)[2];
  GroupRun before_ = {};
  bool odd_ = false;
};

template <int kPanels, bool kXZero>
void multiply_groups(const PanelBlock (&blocks)[2], PairShapes& shapes) {
  static_assert(kGroupsAtOnce == 4);
  const CodesHeader& header = blocks[0].header;
  ChunkedCodes codes[2] = {ChunkedCodes(blocks[0]), ChunkedCodes(blocks[kPanels - 1])};
  const std::int64_t fit = kChunkColumns / header.stretch;
  const std::int64_t step = fit < kGroupsAtOnce ? fit : kGroupsAtOnce;
  GroupedSums<kPanels, kXZero> sums(blocks);
  for (std::int64_t group = 0; group < header.groups; group += step) {
    const std::int64_t left = header.groups - group, count = left < step ? left : step;
    const std::int64_t place = group * header.stretch;
    const std::uint8_t* panels[2] = {};
    for (int panel = 0; panel < kPanels; ++panel) {
      panels[panel] = codes[panel].take(place, place + count * header.stretch);
    }
    for_pair_rows(blocks[0], shapes, [&]<bool kManyRows>(std::int64_t row, std::int64_t rows) {
      PairRun run = run_of(blocks[0], row, place);
      for (int panel = 0; panel < kPanels; ++panel) run.panels[panel] = panels[panel];
      run.count = header.stretch / run.width;
      sums.template multiply<kManyRows>(
          run, {.row = row, .rows = rows, .group = group, .count = count, .sums = nullptr});
    });
  }
  sums.finish_all();
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
