#pragma once

// What products of codes have in common: a panel times a block of rows of x, and what becomes of
// its sums. Compiled once per instruction set.

#include <type_traits>

#include "linear/codes_task.h"
#include "linear/simd/activation.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr std::int64_t kAhead = 4096;             // bytes of codes
inline constexpr int kQuadBytes = 4 * kPanelRows;        // of four columns of a panel
inline constexpr int kRowVectors = kPanelRows / kLanes;  // sums of a panel's rows

// 2 kLanes signed bytes.
STROP_INLINE I16 words_of_bytes(const void* from) {
#if defined(__AVX512BW__)
  return bit_cast<I16>(_mm512_cvtepi8_epi16(load_unaligned<__m256i>(from)));
#elif defined(__AVX2__)
  return bit_cast<I16>(_mm256_cvtepi8_epi16(load_unaligned<__m128i>(from)));
#else
  const I16 bytes = words_from_bytes(from);
  return (bytes ^ broadcast(std::int16_t{128})) - broadcast(std::int16_t{128});
#endif
}

struct PanelBlock {
  const CodesTask& task;
  const CodesHeader& header;
  std::int64_t row;  // of x, the first one
  std::int64_t rows;
  std::int64_t panel;
  std::int32_t* integers;  // [rows][16], of a group that is not over
  float* floats;           // [rows][16], sums
  std::int64_t* wide;      // [rows][16], of a group in parts
  std::uint8_t* decoded;   // scratch for kDecodedColumns columns of the panel, in 16 bits
  std::uint8_t* spread;    // the same for those that a mask keeps
  std::int32_t* steps;     // kGroupSums of one, twice

  // One number for each row of the panel.
  template <class T>
  STROP_MEMBER const T* numbers(std::int64_t place, std::int64_t group) const {
    return reinterpret_cast<const T*>(layout() + place) +
           (panel * header.groups + group) * kPanelRows;
  }
  STROP_MEMBER const std::uint8_t* codes() const {
    return layout() + header.codes + panel * header.panel_bytes();
  }
  // Where the panel's codes begin, beside a mask.
  STROP_MEMBER std::int64_t start() const {
    return reinterpret_cast<const std::int64_t*>(layout() + header.starts)[panel];
  }
  STROP_MEMBER const std::uint8_t* layout() const {
    return static_cast<const std::uint8_t*>(task.args.layout);
  }
};

// Codes that will be read after those that rows of x are multiplied with now: they come from memory
// while these are. Each row's tile fetches a share.
struct Ahead {
  const std::uint8_t* codes = nullptr;
  std::int64_t bytes = 0;

  STROP_MEMBER void fetch(std::int64_t row, std::int64_t count, std::int64_t rows) const {
    const std::int64_t end = bytes * (row + count) / rows;
    for (std::int64_t at = bytes * row / rows; at < end; at += 64) prefetch(codes + at);
  }
};

// Places [begin, end) of a panel, with the codes from `begin` on.
template <class Code>
struct Stretch {
  std::int64_t begin;
  std::int64_t end;
  const Code* codes;
  Ahead ahead = {};
};

// Places of a panel that are in one group.
struct Segment {
  std::int64_t begin;
  std::int64_t end;
  std::int64_t group;
  bool starts;  // the group
  bool ends;
};
STROP_INLINE Segment segment_at(const CodesHeader& header, std::int64_t place, std::int64_t end) {
  const std::int64_t group = place / header.stretch, group_end = (group + 1) * header.stretch;
  return {.begin = place,
          .end = group_end < end ? group_end : end,
          .group = group,
          .starts = place == group * header.stretch,
          .ends = group_end <= end};
}

// y = activation(sums * x_scale + bias), in this order, of one row. kWhole: of all of a panel's
// rows.
template <class T, bool kFused, bool kWhole>
STROP_INLINE void put_row(const PanelBlock& block, std::int64_t row, float x_scale,
                          Activation activation) {
  const LinearRows& args = block.task.args;
  const std::int64_t column = block.panel * kPanelRows;
  const std::int64_t left = kWhole ? kPanelRows : block.header.rows - column;
  const auto* const bias = static_cast<const float*>(args.bias);
  const float* const from = block.floats + row * kPanelRows;
  T* const y = static_cast<T*>(args.y) + (block.row + row) * args.y_stride + column;
  for (int i = 0; i < kRowVectors && i * kLanes < left; ++i) {
    const std::int64_t count = kWhole ? kLanes : left - i * kLanes;
    Vec v = load(from + i * kLanes) * Vec(x_scale);
    if constexpr (kFused)
      v = v + Vec(0.0f);  // no -0: beside a mask its sign is x's, where x is not read
    if (bias != nullptr) {
      const float* const at = bias + column + i * kLanes;
      v = v + (count < kLanes ? load_first(at, count) : load(at));
    }
    v = activated<kFused>(v, activation);
    count < kLanes ? store_first(y + i * kLanes, v, count) : store<false>(y + i * kLanes, v);
  }
}

// Rows of one panel, or of two that lie side by side: of these each row is written at once.
template <class T, bool kFused, int kPanels>
void put_rows(const PanelBlock* blocks, const float* x_scale) {
  const LinearRows& args = blocks[0].task.args;
  const std::int64_t column = blocks[0].panel * kPanelRows;
  const bool whole = blocks[0].header.rows - column >= kPanels * kPanelRows;
  const auto put = [&](auto is_whole, Activation activation) STROP_UNROLLED {
    for (std::int64_t r = 0; r < blocks[0].rows; ++r) {
      const float scale = x_scale == nullptr ? 1.0f : x_scale[blocks[0].row + r];
      for (int i = 0; i < kPanels; ++i) {
        put_row<T, kFused, is_whole>(blocks[i], r, scale, activation);
      }
    }
  };
  if (!whole) return put(std::false_type{}, args.activation);
  if (args.activation != Activation::kNone) return put(std::true_type{}, args.activation);
  put(std::true_type{}, Activation::kNone);
}

// The blocks of a task, with the scratch that they are multiplied in.
struct PanelBlocks {
  const CodesTask& task;
  std::uint8_t* scratch;

  // `second`: of two panels, each of which has half of what is decoded or spread.
  STROP_MEMBER PanelBlock at(std::int64_t item, bool second = false) const {
    const CodesHeader& header = task.args.header();
    constexpr std::int64_t kSums = kCodesRowBlock * kPanelRows, kAllSums = kSums * (4 + 4 + 8);
    constexpr std::int64_t kDecoded = kPanelRows * kDecodedColumns * 2;
    constexpr std::int64_t kSpread = kPanelRows * kValueColumns * 2 * 2;
    auto* const wide = reinterpret_cast<std::int64_t*>(scratch + (second ? kAllSums : 0));
    auto* const integers = reinterpret_cast<std::int32_t*>(wide + kSums);
    auto* const floats = reinterpret_cast<float*>(integers + kSums);
    std::uint8_t* const decoded = scratch + 2 * kAllSums;
    std::uint8_t* const spread = decoded + kDecoded;
    const std::int64_t row = item / header.panels() * kCodesRowBlock;
    const std::int64_t left = task.args.rows - row;
    return {.task = task,
            .header = header,
            .row = row,
            .rows = left < kCodesRowBlock ? left : kCodesRowBlock,
            .panel = item % header.panels(),
            .integers = integers,
            .floats = floats,
            .wide = wide,
            .decoded = decoded + (second ? kDecoded / 2 : 0),
            .spread = spread + (second ? kSpread / 2 : 0),
            .steps = reinterpret_cast<std::int32_t*>(spread + kSpread)};
  }
};

// Puts the sums of blocks of the same rows.
template <int kPanels>
STROP_INLINE void put_blocks(const PanelBlock* blocks) {
  const CodesTask& task = blocks[0].task;
  const CodesHeader& header = blocks[0].header;
  const bool exact = header.activations == Activations::kExact;
  const bool one_group = header.groups == header.parts;
  const float* const x_scale = exact || one_group ? nullptr : task.x_scale;
  by_narrow_dtype(task.args.dtype, [&]<class T>() {
    exact ? put_rows<T, true, kPanels>(blocks, x_scale)
          : put_rows<T, false, kPanels>(blocks, x_scale);
  });
}

// Calls multiply(blocks, count) for blocks of rows x panels [begin, end): up to kMax panels of the
// same rows at a time. kApart: the second has scratch of its own.
template <int kMax, bool kApart = false, class Multiply>
STROP_INLINE void for_blocks(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                             std::int64_t end, Multiply multiply) {
  const PanelBlocks all = {task, scratch};
  const std::int64_t panels = task.args.header().panels();
  for (std::int64_t item = begin; item < end;) {
    const bool two = kMax == 2 && item + 1 < end && (item + 1) % panels != 0;
    PanelBlock blocks[2] = {all.at(item), all.at(two ? item + 1 : item, kApart)};
    multiply(blocks, two ? 2 : 1);
    item += two ? 2 : 1;
  }
}

// Calls multiply(block) for blocks of rows x panels [begin, end), and puts their sums.
template <class Multiply>
STROP_INLINE void for_panels(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                             std::int64_t end, Multiply multiply) {
  const PanelBlocks blocks = {task, scratch};
  for (std::int64_t item = begin; item < end; ++item) {
    const PanelBlock block = blocks.at(item);
    multiply(block);
    put_blocks<1>(&block);
  }
}

}  // namespace strop::linear::simd::STROP_ISA
