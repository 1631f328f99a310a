#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "quantize/fake_quantize.h"

namespace strop::quantize::reference {

// One block: where it begins in each dimension and how far it goes, and its place among the blocks.
struct Block {
  std::int64_t begin[kMaxDims];
  std::int64_t end[kMaxDims];
  std::int64_t at[kMaxDims];
};

inline Block block_at(const FakeQuantizeArgs& args, std::int64_t number) {
  Block block{};
  for (int d = args.dims - 1; d >= 0; --d) {
    const QuantizeDim& dim = args.dim[d];
    block.at[d] = number % dim.blocks();
    number /= dim.blocks();
    block.begin[d] = block.at[d] * dim.block;
    block.end[d] = std::min(block.begin[d] + dim.block, dim.size);
  }
  return block;
}

// Calls visit(input offset, output offset, row-major index) for every element of a block.
template <class Visit>
void for_each_element(const FakeQuantizeArgs& args, const Block& block, Visit visit) {
  std::int64_t position[kMaxDims];
  std::copy(block.begin, block.begin + args.dims, position);
  while (true) {
    std::int64_t input = 0, output = 0, index = args.first_index;
    for (int d = 0; d < args.dims; ++d) {
      input += position[d] * args.dim[d].input;
      output += position[d] * args.dim[d].output;
      index += position[d] * args.dim[d].index;
    }
    visit(input, output, index);
    int d = args.dims - 1;
    while (d >= 0 && ++position[d] == block.end[d]) {
      position[d] = block.begin[d];
      --d;
    }
    if (d < 0) return;
  }
}

template <class T>
T read_zero_point(const void* data, DType dtype, std::int64_t offset) {
  switch (dtype) {
    case DType::kFloat32:
      return static_cast<T>(static_cast<const float*>(data)[offset]);
    case DType::kFloat64:
      return static_cast<T>(static_cast<const double*>(data)[offset]);
    case DType::kUInt8:
      return static_cast<T>(static_cast<const std::uint8_t*>(data)[offset]);
    case DType::kInt8:
      return static_cast<T>(static_cast<const std::int8_t*>(data)[offset]);
    case DType::kUInt16:
      return static_cast<T>(static_cast<const std::uint16_t*>(data)[offset]);
    case DType::kInt16:
      return static_cast<T>(static_cast<const std::int16_t*>(data)[offset]);
    case DType::kUInt32:
      return static_cast<T>(static_cast<const std::uint32_t*>(data)[offset]);
    case DType::kInt32:
      return static_cast<T>(static_cast<const std::int32_t*>(data)[offset]);
    case DType::kUInt64:
      return static_cast<T>(static_cast<const std::uint64_t*>(data)[offset]);
    default:
      return static_cast<T>(static_cast<const std::int64_t*>(data)[offset]);
  }
}

template <class T>
T rounded(Rounding rounding, T v, T u) {
  switch (rounding) {
    case Rounding::kHalfEven:
      return std::nearbyint(v);
    case Rounding::kHalfAway:
      return std::round(v);
    case Rounding::kFloor:
      return std::floor(v);
    case Rounding::kCeil:
      return std::ceil(v);
    case Rounding::kTrunc:
      return std::trunc(v);
    case Rounding::kStochastic:
      break;
  }
  return u < v - std::floor(v) ? std::floor(v) + 1 : std::floor(v);
}

// The largest number that both an element and the arithmetic can hold.
template <class T, class Storage>
T largest_result() {
  if constexpr (std::is_same_v<Storage, BFloat16>) return to_float(BFloat16{0x7f7f});
  if constexpr (std::is_same_v<Storage, Float16>) return to_float(Float16{0x7bff});
  if constexpr (std::is_same_v<Storage, float>) return std::numeric_limits<float>::max();
  return std::numeric_limits<T>::max();
}

// As an element, which is finite unless an Inf was given.
template <class T, class Storage>
Storage stored(T result, bool inf_was_given) {
  const T most = largest_result<T, Storage>();
  if (!inf_was_given && result > most) result = most;
  if (!inf_was_given && result < -most) result = -most;
  return FromFloat<Storage>::call(static_cast<decltype(to_float(Storage{}))>(result));
}

template <class T>
struct Parameters {
  T scale;
  T zero_point;
  T inverse = T(1) / scale;

  bool has_inf() const { return std::isinf(scale) || std::isinf(zero_point); }
};

template <class T>
Parameters<T> given_parameters(const FakeQuantizeArgs& args, const Block& block) {
  std::int64_t scale = 0, zero_point = 0;
  for (int d = 0; d < args.dims; ++d) {
    scale += block.at[d] * args.dim[d].scale;
    zero_point += block.at[d] * args.dim[d].zero_point;
  }
  const T zero = args.zero_point == nullptr
                     ? T(0)
                     : read_zero_point<T>(args.zero_point, args.zero_point_dtype, zero_point);
  return {static_cast<const T*>(args.scale)[scale], zero};
}

}  // namespace strop::quantize::reference
