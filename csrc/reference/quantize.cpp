#include "reference/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/philox.h"

namespace strop::reference {
namespace {

// One block: where it begins in each dimension and how far it goes, and its place among the blocks.
struct Block {
  std::int64_t begin[kMaxDims];
  std::int64_t end[kMaxDims];
  std::int64_t at[kMaxDims];
};

Block block_at(const FakeQuantizeArgs& args, std::int64_t number) {
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

template <class T>
struct Parameters {
  T scale;
  T zero_point;
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

// Storage is the element type, T the type of the arithmetic.
template <class T, class Storage>
Parameters<T> chosen_parameters(const FakeQuantizeArgs& args, const Block& block) {
  const auto* input = static_cast<const Storage*>(args.input);
  T smallest = 0, largest = 0;
  bool finite = true;
  for_each_element(args, block, [&](std::int64_t at, std::int64_t, std::int64_t) {
    const T x = to_float(input[at]);
    finite = finite && std::isfinite(x);
    smallest = x < smallest ? x : smallest;
    largest = x > largest ? x : largest;
  });
  const T nan = std::numeric_limits<T>::quiet_NaN();
  if (!finite) return {nan, nan};
  const QuantizeRule& rule = args.rule;
  const T eps = static_cast<T>(rule.eps);
  if (rule.symmetric) {
    const T amax = std::max(-smallest, largest);
    return {std::max(amax / static_cast<T>(rule.half_range()), eps),
            static_cast<T>(rule.zero_point)};
  }
  const T low = static_cast<T>(rule.quant_min), high = static_cast<T>(rule.quant_max);
  const T scale = std::max((largest - smallest) / static_cast<T>(rule.range()), eps);
  return {scale, std::min(std::max(low - std::nearbyint(smallest / scale), low), high)};
}

template <class T, class Storage>
void quantize_block(const FakeQuantizeArgs& args, const Block& block) {
  const auto* input = static_cast<const Storage*>(args.input);
  auto* output = static_cast<Storage*>(args.output);
  const Parameters<T> p = args.dynamic() ? chosen_parameters<T, Storage>(args, block)
                                         : given_parameters<T>(args, block);
  const bool floating = args.zero_point_is_floating();
  const bool random = args.rule.rounding == Rounding::kStochastic;
  const T inverse = T(1) / p.scale;
  const T low = static_cast<T>(args.rule.quant_min), high = static_cast<T>(args.rule.quant_max);
  for_each_element(args, block, [&](std::int64_t from, std::int64_t to, std::int64_t index) {
    const auto number = static_cast<std::uint64_t>(index);
    const T u = random ? philox_uniform(args.seed, RandomStream::kFakeQuantize, number) : 0.0f;
    const T x = to_float(input[from]);
    T code = floating ? rounded(args.rule.rounding, x * inverse + p.zero_point, u)
                      : rounded(args.rule.rounding, x * inverse, u) + p.zero_point;
    if (code < low) code = low;
    if (code > high) code = high;
    // + 0: codes are whole numbers, and those have no -0.
    output[to] = FromFloat<Storage>::call((code + T(0) - p.zero_point) * p.scale);
  });
}

template <class T, class Storage>
void quantize_blocks(const FakeQuantizeArgs& args, std::int64_t first, std::int64_t last) {
  for (std::int64_t number = first; number < last; ++number) {
    quantize_block<T, Storage>(args, block_at(args, number));
  }
}

}  // namespace

std::int64_t block_count(const FakeQuantizeArgs& args) {
  std::int64_t count = 1;
  for (int d = 0; d < args.dims; ++d) {
    count *= args.dim[d].size == 0 ? 0 : args.dim[d].blocks();
  }
  return count;
}

void fake_quantize(const FakeQuantizeArgs& args, std::int64_t first_block,
                   std::int64_t last_block) {
  switch (args.dtype) {
    case DType::kFloat64:
      return quantize_blocks<double, double>(args, first_block, last_block);
    case DType::kBFloat16:
      return quantize_blocks<float, BFloat16>(args, first_block, last_block);
    case DType::kFloat16:
      return quantize_blocks<float, Float16>(args, first_block, last_block);
    default:
      return quantize_blocks<float, float>(args, first_block, last_block);
  }
}

}  // namespace strop::reference
