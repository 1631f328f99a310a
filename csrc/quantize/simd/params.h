#pragma once

// The given parameters of a tile's blocks. Compiled once per instruction set.

#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

template <class Z>
void read_zero_points(const void* data, std::int64_t at, std::int64_t step, std::int64_t count,
                      float* to) {
  const Z* from = static_cast<const Z*>(data) + at;
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(from[i * step]);
}

using ReadZeroPoints = void (*)(const void*, std::int64_t, std::int64_t, std::int64_t, float*);

inline ReadZeroPoints zero_point_reader(DType dtype) {
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

// What the parameters of a tile's blocks ask for.
struct TileNeeds {
  bool formula;     // they are not what Note [Shifted range] covers
  bool saturation;  // results may be beyond the dtype: Note [Saturation]
};

// The shifted ranges of `blocks` blocks. Usual are positive or NaN scales, and zero points within
// kMaxShift. Unused lanes count too: they hold 1 and 0.
inline TileNeeds shift_ranges(const FakeQuantizeArgs& args, std::int64_t blocks,
                              TileParams& params) {
  const QuantizeRule& rule = args.rule;
  const Vec lowest(static_cast<float>(rule.quant_min));
  const Vec highest(static_cast<float>(rule.quant_max));
  const Vec most(static_cast<float>(largest_number(args.dtype)));
  I32 unusual{}, beyond{};
  for (std::int64_t i = 0; i < blocks; i += kLanes) {
    const Vec scale = load(params.scale + i), zero_point = load(params.zero_point + i);
    unusual |=
        I32(scale.v <= broadcast(0.0f)) | I32(magnitude(zero_point).v > broadcast(kMaxShift));
    const Vec low = lowest - zero_point, high = highest - zero_point;
    beyond |= may_saturate(max(magnitude(low), magnitude(high)), scale, most);
    store<false>(params.min + i, low);
    store<false>(params.max + i, high);
  }
  return {.formula = lane_bits(unusual) != 0, .saturation = lane_bits(beyond) != 0};
}

// The needs of any format's parameters, of whole vectors of blocks.
inline TileNeeds needs_of(const FakeQuantizeArgs& args, std::int64_t blocks, TileParams& params) {
  if (args.rule.grid == Grid::kInteger) return shift_ranges(args, blocks, params);
  const Vec largest_value(static_cast<float>(args.rule.quant_max));
  const Vec most(static_cast<float>(largest_number(args.dtype)));
  I32 beyond{};
  for (std::int64_t i = 0; i < blocks; i += kLanes) {
    beyond |= may_saturate(largest_value, load(params.scale + i), most);
  }
  return {.formula = false, .saturation = lane_bits(beyond) != 0};
}

// Given parameters of a tile's blocks.
inline TileNeeds read_params(const QuantizeTask& task, const QuantizeTile& tile,
                             TileParams& params) {
  const FakeQuantizeArgs& args = task.args;
  const QuantizeDim& inner = task.inner();
  const float* scale = static_cast<const float*>(args.scale) + tile.scale;
  const std::int64_t padded = (tile.blocks + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t i = 0; i < tile.blocks; ++i) params.scale[i] = scale[i * inner.scale];
  for (std::int64_t i = tile.blocks; i < padded; ++i) params.scale[i] = 1.0f;
  for (std::int64_t i = 0; i < padded; i += kLanes) {
    // The default NaN for any other: store_pair rounds a bfloat16 NaN like a number.
    const F32 given = load(params.scale + i).v;
    const Vec plain = Vec::wrap(select(I32(given == given), given, broadcast(__builtin_nanf(""))));
    store<false>(params.scale + i, plain);
    store<false>(params.inverse + i, Vec(1.0f) / plain);
    store<false>(params.zero_point + i, Vec(0.0f));
  }
  if (args.zero_point != nullptr) {
    zero_point_reader(args.zero_point_dtype)(args.zero_point, tile.zero_point, inner.zero_point,
                                             tile.blocks, params.zero_point);
  }
  return needs_of(args, padded, params);
}

// A parameter for every element of a run.
inline void expand_params(const TileParams& blocks, const BlockSteps& steps, std::int64_t count,
                          TileParams& elements) {
  std::int64_t end = steps.block - steps.into;
  for (std::int64_t i = 0, block = steps.first; i < count; ++block, end += steps.block) {
    const float inverse = blocks.inverse[block];
    const float scale = blocks.scale[block];
    const float zero_point = blocks.zero_point[block];
    for (; i < end && i < count; ++i) {
      elements.inverse[i] = inverse;
      elements.scale[i] = scale;
      elements.zero_point[i] = zero_point;
    }
  }
}

}  // namespace strop::quantize::simd::STROP_ISA
