// The kernels of quantize, compiled once per instruction set (STROP_ISA).

#include "cpu/quantize.h"

#include "cpu/quantize_rows.h"

namespace strop::cpu::STROP_ISA {
namespace {

// Elements at a time where a row has to be gathered, scattered or given random numbers.
constexpr std::int64_t kChunk = 2048;

template <class T>
struct alignas(64) Scratch {
  TileParams params;
  TileParams expanded;
  TileExtremes extremes;
  float random[kChunk];
  T input[kChunk];
  T output[kChunk];
};

template <class T>
using QuantizeRow = void (*)(const RowRun<T>&, const TileParams&, const RowRule&);

template <class T, template <Rounding, class> class Form>
constexpr QuantizeRow<T> kForms[kRoundings] = {
    Form<Rounding::kHalfEven, T>::row, Form<Rounding::kHalfAway, T>::row,
    Form<Rounding::kFloor, T>::row,    Form<Rounding::kCeil, T>::row,
    Form<Rounding::kTrunc, T>::row,    Form<Rounding::kStochastic, T>::row,
};

template <Rounding kRounding, class T>
struct ByBlock {
  static constexpr QuantizeRow<T> row = quantize_blocks<kRounding, T>;
};

template <Rounding kRounding, class T>
struct ByElement {
  static constexpr QuantizeRow<T> row = quantize_elements<kRounding, T>;
};

template <class Z>
void read_zero_points(const void* data, std::int64_t at, std::int64_t step, std::int64_t count,
                      float* to) {
  const Z* from = static_cast<const Z*>(data) + at;
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i * step]);
}

using ReadZeroPoints = void (*)(const void*, std::int64_t, std::int64_t, std::int64_t, float*);

ReadZeroPoints zero_point_reader(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
      return read_zero_points<std::uint8_t>;
    case DType::kInt8:
      return read_zero_points<std::int8_t>;
    case DType::kUInt16:
      return read_zero_points<std::uint16_t>;
    case DType::kInt16:
      return read_zero_points<std::int16_t>;
    case DType::kUInt32:
      return read_zero_points<std::uint32_t>;
    case DType::kInt32:
      return read_zero_points<std::int32_t>;
    case DType::kUInt64:
      return read_zero_points<std::uint64_t>;
    case DType::kInt64:
      return read_zero_points<std::int64_t>;
    default:
      return read_zero_points<float>;
  }
}

void read_params(const QuantizeTask& task, const QuantizeTile& tile, TileParams& params) {
  const FakeQuantizeArgs& args = task.args;
  const QuantizeDim& inner = task.inner();
  const float* scale = static_cast<const float*>(args.scale) + tile.scale;
  for (std::int64_t i = 0; i < tile.blocks; ++i) {
    params.scale[i] = scale[i * inner.scale];
    params.inverse[i] = 1.0f / params.scale[i];
    params.zero_point[i] = 0.0f;
  }
  if (args.zero_point == nullptr) return;
  zero_point_reader(args.zero_point_dtype)(args.zero_point, tile.zero_point, inner.zero_point,
                                           tile.blocks, params.zero_point);
}

void choose_params(const QuantizeRule& rule, const TileExtremes& extremes, std::int64_t blocks,
                   TileParams& params) {
  for (std::int64_t i = 0; i < blocks; i += kLanes) {
    const I32 max = load_unaligned<I32>(extremes.max + i);
    ChosenParams<Vec> chosen;
    if (rule.symmetric) {
      chosen = choose_symmetric(Vec::wrap(bit_cast<F32>(max)), rule);
    } else {
      const I32 min = load_unaligned<I32>(extremes.min + i);
      const I32 flip = broadcast(0x7fffffff);
      chosen = choose_asymmetric(Vec::wrap(bit_cast<F32>(min ^ ((min >> 31) & flip))),
                                 Vec::wrap(bit_cast<F32>(max ^ ((max >> 31) & flip))), rule);
    }
    store<false>(params.scale + i, chosen.scale);
    store<false>(params.inverse + i, Vec(1.0f) / chosen.scale);
    store<false>(params.zero_point + i, chosen.zero_point);
  }
}

void expand_params(const TileParams& blocks, std::int64_t width, std::int64_t columns,
                   TileParams& elements) {
  for (std::int64_t i = 0, block = 0; i < columns; ++block) {
    for (std::int64_t k = 0; k < width && i < columns; ++k, ++i) {
      elements.inverse[i] = blocks.inverse[block];
      elements.scale[i] = blocks.scale[block];
      elements.zero_point[i] = blocks.zero_point[block];
    }
  }
}

// Calls function(run, first column) on a row's pieces of at most `chunk` columns, gathered into
// consecutive elements where they are not. The runs have no output yet.
template <class T, class Function>
STROP_INLINE void for_each_run(const QuantizeTask& task, const QuantizeTile& tile,
                               std::int64_t chunk, Scratch<T>& scratch, Function function) {
  const QuantizeDim& inner = task.inner();
  const T* const row = static_cast<const T*>(task.args.input) + tile.input;
  const std::int64_t unit = task.by_element ? 1 : inner.block;
  for (std::int64_t column = 0; column < tile.columns; column += chunk) {
    RowRun<T> run{};
    run.count = tile.columns - column < chunk ? tile.columns - column : chunk;
    run.steps = {inner.block, 0, tile.into_block};
    if (column > 0) {
      run.steps.first = (tile.into_block + column) / unit;
      run.steps.into = (tile.into_block + column) % unit;
    }
    run.input = row + column * inner.input;
    if (inner.input != 1) {
      for (std::int64_t i = 0; i < run.count; ++i) scratch.input[i] = run.input[i * inner.input];
      run.input = scratch.input;
    }
    function(run, column);
  }
}

template <class T>
void add_extremes(const QuantizeTask& task, QuantizeTile tile, Scratch<T>& scratch) {
  const bool symmetric = task.args.rule.symmetric;
  const auto by_block = symmetric ? extremes_of_blocks<true, T> : extremes_of_blocks<false, T>;
  const auto by_element = symmetric ? extremes_of_elements<true, T> : extremes_of_elements<false, T>;
  const auto add = task.by_element ? by_element : by_block;
  const std::int64_t chunk = task.inner().input == 1 ? tile.columns : kChunk;
  std::memset(&scratch.extremes, 0, sizeof scratch.extremes);
  for (std::int64_t row = 0; row < tile.rows; ++row, tile.next_row(task.args)) {
    for_each_run(task, tile, chunk, scratch,
                 [&](const RowRun<T>& run, std::int64_t) { add(run, scratch.extremes); });
  }
}

template <class T>
void quantize_tile(const QuantizeTask& task, QuantizeTile tile, const TileParams& params,
                   const RowRule& rule, Scratch<T>& scratch) {
  const FakeQuantizeArgs& args = task.args;
  const QuantizeDim& inner = task.inner();
  const int rounding = static_cast<int>(args.rule.rounding);
  const QuantizeRow<T> quantize =
      task.by_element ? kForms<T, ByElement>[rounding] : kForms<T, ByBlock>[rounding];
  const bool random = args.rule.rounding == Rounding::kStochastic;
  const bool plain = inner.input == 1 && inner.output == 1 && !random;
  for (std::int64_t row = 0; row < tile.rows; ++row, tile.next_row(args)) {
    T* const output = static_cast<T*>(args.output) + tile.output;
    const auto one_run = [&](RowRun<T> run, std::int64_t column) {
      if (random) {
        const std::int64_t index = tile.index + column * inner.index;
        fill_random(scratch.random, args.seed, static_cast<std::uint64_t>(index),
                    static_cast<std::uint64_t>(inner.index), run.count);
        run.random = scratch.random;
      }
      run.output = inner.output == 1 ? output + column : scratch.output;
      run.stream = task.stream && inner.output == 1;
      quantize(run, params, rule);
      if (inner.output == 1) return;
      T* const to = output + column * inner.output;
      for (std::int64_t i = 0; i < run.count; ++i) to[i * inner.output] = scratch.output[i];
    };
    for_each_run(task, tile, plain ? tile.columns : kChunk, scratch, one_run);
  }
}

template <class T>
void fake_quantize_tiles(const QuantizeTask& task, std::int64_t begin, std::int64_t end) {
  const FakeQuantizeArgs& args = task.args;
  const RowRule rule{{Vec(static_cast<float>(args.rule.quant_min)),
                      Vec(static_cast<float>(args.rule.quant_max))},
                     args.zero_point_is_floating()};
  Scratch<T> scratch;
  for (std::int64_t number = begin; number < end; ++number) {
    const QuantizeTile tile = tile_at(task, number);
    if (args.dynamic()) {
      add_extremes(task, tile, scratch);
      choose_params(args.rule, scratch.extremes, tile.blocks, scratch.params);
    } else {
      read_params(task, tile, scratch.params);
    }
    const bool expand = task.by_element && task.inner().block > 1;
    if (expand) {
      expand_params(scratch.params, task.inner().block, tile.columns, scratch.expanded);
    }
    quantize_tile(task, tile, expand ? scratch.expanded : scratch.params, rule, scratch);
  }
  if (task.stream) stream_fence();
}

template <class T>
void extremes_of_tiles(const QuantizeTask& task, std::int64_t begin, std::int64_t end,
                       std::int32_t* min, std::int32_t* max) {
  Scratch<T> scratch;
  const std::int64_t row_of_blocks = task.inner().blocks();
  for (std::int64_t number = begin; number < end; ++number) {
    const QuantizeTile tile = tile_at(task, number);
    add_extremes(task, tile, scratch);
    const std::int64_t first = tile.slab * row_of_blocks + tile.first_block;
    for (std::int64_t i = 0; i < tile.blocks; ++i) {
      if (scratch.extremes.min[i] < min[first + i]) min[first + i] = scratch.extremes.min[i];
      if (scratch.extremes.max[i] > max[first + i]) max[first + i] = scratch.extremes.max[i];
    }
  }
}

void fake_quantize(const QuantizeTask& task, std::int64_t begin, std::int64_t end) {
  switch (task.args.dtype) {
    case DType::kBFloat16:
      return fake_quantize_tiles<BFloat16>(task, begin, end);
    case DType::kFloat16:
      return fake_quantize_tiles<Float16>(task, begin, end);
    default:
      return fake_quantize_tiles<float>(task, begin, end);
  }
}

void extremes(const QuantizeTask& task, std::int64_t begin, std::int64_t end, std::int32_t* min,
              std::int32_t* max) {
  switch (task.args.dtype) {
    case DType::kBFloat16:
      return extremes_of_tiles<BFloat16>(task, begin, end, min, max);
    case DType::kFloat16:
      return extremes_of_tiles<Float16>(task, begin, end, min, max);
    default:
      return extremes_of_tiles<float>(task, begin, end, min, max);
  }
}

}  // namespace

extern const QuantizeKernels quantize;
const QuantizeKernels quantize = {fake_quantize, extremes};

}  // namespace strop::cpu::STROP_ISA
