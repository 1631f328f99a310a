// The kernels of fake_quantize's gradients, compiled once per instruction set (STROP_ISA).

#include "core/simd/random.h"
#include "quantize/simd/gradient_rows.h"
#include "quantize/simd/params.h"
#include "quantize/simd/table.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

// Lanes of 32 bits of a mask of kItemBytes-sized elements: bit i to all bits of element i.
template <int kItemBytes>
STROP_INLINE U32 element_lanes(std::uint64_t bits) {
  U32 first, second;  // the bit of each lane's (first and second) element
  for (int lane = 0; lane < kLanes; ++lane) {
    first[lane] = 1u << (kItemBytes == 2 ? 2 * lane : kItemBytes == 4 ? lane : lane / 2);
    second[lane] = first[lane] << 1;
  }
  const U32 all = broadcast(static_cast<std::uint32_t>(bits));
  const U32 whole = U32((all & first) == first);
  if constexpr (kItemBytes != 2) return whole;
  return (whole & broadcast(0xffffu)) | (U32((all & second) == second) & broadcast(0xffff0000u));
}

// Four vectors at a time, whose mask bits are whole bytes on every instruction set.
template <int kItemBytes, bool kStream>
void masked_range(const MaskedGradientArgs& args, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kElements = kVectorBytes / kItemBytes;  // of a vector
  constexpr std::int64_t kStep = 4 * kElements;
  const char* const from = static_cast<const char*>(args.gradient);
  char* const to = static_cast<char*>(args.output);
  std::int64_t i = begin;
  for (; i + kStep <= end; i += kStep) {
    std::uint64_t bits[2] = {0, 0};
    std::memcpy(bits, args.mask + i / 8, kStep / 8);
    prefetch(from + i * kItemBytes + 4096);
    prefetch(from + i * kItemBytes + 4096 + 2 * kVectorBytes);
    for (int vector = 0; vector < 4; ++vector) {
      const std::int64_t at = (i + vector * kElements) * kItemBytes;
      const int shift = vector * static_cast<int>(kElements);
      const U32 lanes = element_lanes<kItemBytes>(bits[shift / 64] >> shift % 64);
      const F32 kept = bit_cast<F32>(load_unaligned<U32>(from + at) & lanes);
      if constexpr (kStream) {
        stream(to + at, kept);
      } else {
        store_unaligned(to + at, kept);
      }
    }
  }
  for (; i < end; ++i) {
    const bool kept = args.mask[i / 8] >> i % 8 & 1;
    for (int byte = 0; byte < kItemBytes; ++byte) {
      const std::int64_t at = i * kItemBytes + byte;
      to[at] = kept ? from[at] : 0;
    }
  }
  if (kStream) stream_fence();
}

template <int kItemBytes>
void masked_items(const MaskedGradientArgs& args, bool stream, std::int64_t begin,
                  std::int64_t end) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(args.output) % kVectorBytes == 0;
  return stream && aligned ? masked_range<kItemBytes, true>(args, begin, end)
                           : masked_range<kItemBytes, false>(args, begin, end);
}

template <class T>
const LearnedRows<T>& rows_of(const FakeQuantizeArgs& args) {
  const QuantizeRule& rule = args.rule;
  switch (rule.grid) {
    case Grid::kFloat:
      return learned_float_rows<T>(rule.rounding);
    case Grid::kNf4:
      return learned_nf4_rows<T>();
    default:
      return learned_integer_rows<T>(rule.rounding, args.zero_point_is_floating());
  }
}

static_assert(kMaxSumBlocks <= kMaxTileBlocks);

template <class T>
struct alignas(64) LearnedScratch {
  TileParams params;
  TileParams expanded;
  TermBuffers terms;
  float random[kRunColumns];
  T input[kRunColumns];
  T gradient[kRunColumns];
  T output[kRunColumns];
};

// One tile's work: rows, in each of them runs.
template <class T>
class LearnedTile {
 public:
  LearnedTile(const LearnedTask& task, std::int64_t number, LearnedScratch<T>& scratch)
      : args_(task.forward.args),
        inner_(task.forward.inner()),
        narrow_(task.forward.narrow),
        gradient_(static_cast<const T*>(task.gradient)),
        tile_(tile_at(task.forward, number)),
        scratch_(scratch),
        stream_(task.forward.stream && inner_.input == 1),
        sums_{task.scale_sums + number * task.blocks_held,
              task.zero_sums == nullptr ? nullptr : task.zero_sums + number * task.blocks_held},
        rows_(rows_of<T>(args_)) {
    read_params(task.forward, tile_, scratch.params);
  }

  void run() {
    for (std::int64_t row = 0; row < tile_.rows; ++row, tile_.next_row(args_)) {
      for (std::int64_t column = 0; column < tile_.columns;) {
        column += narrow_ ? narrow_blocks(column) : wide_blocks(column);
      }
    }
  }

 private:
  BlockSteps steps_at(std::int64_t column) const {
    const std::int64_t at = tile_.into_block + column;
    return {inner_.block, at / inner_.block, at % inner_.block};
  }

  // Both return how many columns they did. What is gathered, or needs random numbers, is cut where
  // a run ends.
  std::int64_t wide_blocks(std::int64_t column) {
    const BlockSteps steps = steps_at(column);
    std::int64_t count = tile_.columns - column;
    if (inner_.input != 1 || args_.rule.rounding == Rounding::kStochastic) {
      if (count > steps.block - steps.into) count = steps.block - steps.into;
      if (count > kRunColumns) count = kRunColumns;
    }
    const LearnedRun<T> run = gather(column, count);
    rows_.blocks(run, steps, scratch_.params, args_.rule, sums_);
    scatter(run, column);
    return count;
  }

  std::int64_t narrow_blocks(std::int64_t column) {
    const std::int64_t left = tile_.columns - column;
    const std::int64_t count = left < kRunColumns ? left : kRunColumns;
    const LearnedRun<T> run = gather(column, count);
    const BlockSteps steps = steps_at(column);
    expand_params(scratch_.params, steps, count, scratch_.expanded);
    rows_.elements(run, scratch_.expanded, args_.rule, scratch_.terms);
    std::int64_t block = steps.first, end = steps.block - steps.into;
    for (std::int64_t i = 0; i < count; ++block, end += steps.block) {
      for (; i < end && i < count; ++i) {
        sums_.scale[block] += static_cast<double>(scratch_.terms.scale[i]);
        if (sums_.zero_point == nullptr) continue;
        sums_.zero_point[block] += static_cast<double>(scratch_.terms.zero_point[i]);
      }
    }
    scatter(run, column);
    return count;
  }

  LearnedRun<T> gather(std::int64_t column, std::int64_t count) {
    const std::int64_t at = tile_.input + column * inner_.input;
    const T* const input = static_cast<const T*>(args_.input) + at;
    T* const output = static_cast<T*>(args_.output) + at;
    LearnedRun<T> run = {input, gradient_ + at, output, nullptr, count, stream_};
    if (args_.rule.rounding == Rounding::kStochastic) {
      fill_random(scratch_.random, args_.seed,
                  static_cast<std::uint64_t>(tile_.index + column * inner_.index),
                  static_cast<std::uint64_t>(inner_.index), count);
      run.random = scratch_.random;
    }
    if (inner_.input == 1) return run;
    for (std::int64_t i = 0; i < count; ++i) {
      scratch_.input[i] = run.input[i * inner_.input];
      scratch_.gradient[i] = run.gradient[i * inner_.input];
    }
    run.input = scratch_.input;
    run.gradient = scratch_.gradient;
    run.output = scratch_.output;
    return run;
  }

  void scatter(const LearnedRun<T>& run, std::int64_t column) const {
    if (inner_.input == 1) return;
    T* const to = static_cast<T*>(args_.output) + tile_.input + column * inner_.input;
    for (std::int64_t i = 0; i < run.count; ++i) to[i * inner_.input] = run.output[i];
  }

  const FakeQuantizeArgs& args_;
  const QuantizeDim& inner_;
  const bool narrow_;
  const T* const gradient_;
  QuantizeTile tile_;
  LearnedScratch<T>& scratch_;
  const bool stream_;
  const BlockSums sums_;
  const LearnedRows<T>& rows_;
};

template <class T>
void learned_tiles(const LearnedTask& task, std::int64_t begin, std::int64_t end) {
  LearnedScratch<T> scratch;
  for (std::int64_t number = begin; number < end; ++number) {
    LearnedTile<T>(task, number, scratch).run();
  }
  if (task.forward.stream) stream_fence();
}

}  // namespace

void masked_gradient(const MaskedGradientArgs& args, bool stream, std::int64_t begin,
                     std::int64_t end) {
  if (args.item_bytes == 2) return masked_items<2>(args, stream, begin, end);
  if (args.item_bytes == 4) return masked_items<4>(args, stream, begin, end);
  return masked_items<8>(args, stream, begin, end);
}

void learned_gradient(const LearnedTask& task, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.forward.args.dtype, [&]<class T>() { learned_tiles<T>(task, begin, end); });
}

}  // namespace strop::quantize::simd::STROP_ISA
