// quantize and dequantize on a GPU. quantize chooses scales from the extremes of all blocks first;
// codes are then eight a thread, whose bytes no other thread writes.

#include <algorithm>

#include "quantize/cuda/extremes.cuh"
#include "quantize/cuda/quantize.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;
namespace {

// What follows from the extremes of blocks: parameters, and the scales as they are kept.
template <class A>
__global__ void __launch_bounds__(kThreads)
    choose_codes_kernel(const __grid_constant__ RuleNumbers<A> rule, KeyTable<A> keys,
                        ParamTable<A> table, ChosenScales chosen, std::int64_t blocks) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < blocks;
       i += step) {
    const Extremes<A> found = {key_value(flipped(keys.min[i])), key_value(flipped(keys.max[i]))};
    const QuantizeParams<A> params = chosen_params(found, rule);
    table.inverse[i] = params.inverse;
    table.scale[i] = params.scale;
    const bool finite = params.scale == params.scale;
    table.zero_point[i] = finite ? params.zero_point : A(0);
    if (chosen.zero_point != nullptr) {
      chosen.zero_point[i] = finite ? static_cast<int>(params.zero_point) : 0;
    }
    auto* const bytes = static_cast<std::uint8_t*>(chosen.scale);
    if (rule.scales == ScaleKind::kPowerOfTwo) {
      bytes[i] = power_to_byte(params.scale);
    } else if (rule.scales == ScaleKind::kTwoLevels) {
      bytes[i] = block_scale_to_byte(choose_block_scale(found.max, *rule.tensor_scale, rule));
      if (i == 0) *static_cast<A*>(chosen.tensor_scale) = *rule.tensor_scale;
    } else {
      static_cast<A*>(chosen.scale)[i] = params.scale;
    }
  }
}

template <class A>
__device__ __forceinline__ QuantizeParams<A> code_params(const Problem<A>& problem,
                                                         const ParamTable<A>& table, Place row,
                                                         std::int64_t column) {
  row.move_blocks(problem.inner(), problem.block_of(column));
  if (table.scale == nullptr) return given_params<A>(problem.args, row.scale, row.zero_point);
  return {table.inverse[row.scale], table.scale[row.scale], table.zero_point[row.scale]};
}

// Calls put(i, code) for the elements of a unit.
template <class T, class Put>
__device__ __forceinline__ void unit_codes(const Problem<Arithmetic<T>>& problem,
                                           const ParamTable<Arithmetic<T>>& table,
                                           const UnitPlace& at, Put put) {
  using A = Arithmetic<T>;
  const QuantizeDim& inner = problem.inner();
  const T* const row = static_cast<const T*>(problem.args.input) + at.row.input;
  A x[kUnit];
  load_unit(x, row + at.column * inner.input, inner.input, at.count, problem.whole);
  const bool one = problem.block_of(at.column) == problem.block_of(at.column + at.count - 1);
  const QuantizeParams<A> first = code_params(problem, table, at.row, at.column);
  const auto params_of = [&](int i) {
    return one || i >= at.count ? first : code_params(problem, table, at.row, at.column + i);
  };
  const std::int64_t index = at.row.index + at.column * inner.index;
  if (problem.rule.grid == Grid::kInteger) {
    for_each_code<false, kUnit>(problem, index, [&](int i, auto code) {
      const QuantizeParams<A> params = params_of(i);
      put(i, integer_code(code(x[i] * params.inverse, params.zero_point), problem.rule));
    });
  } else if (problem.rule.grid == Grid::kNf4) {
    for (int i = 0; i < kUnit; ++i) put(i, nf4_code(x[i] * params_of(i).inverse));
  } else {
    for_each_on_grid<kUnit>(problem, index, [&](int i, auto on) {
      put(i, float_code(on(x[i] * params_of(i).inverse).value, problem.rule.floats, problem.rule));
    });
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    codes_kernel(const __grid_constant__ Problem<Arithmetic<T>> problem,
                 const __grid_constant__ ParamTable<Arithmetic<T>> table,
                 const __grid_constant__ Divider row_units, std::int64_t units) {
  const QuantizeDim& inner = problem.inner();
  const int bits = problem.rule.bits;
  auto* const codes = static_cast<std::uint8_t*>(problem.args.output);
  for_each_unit(problem, row_units, units, [&](const UnitPlace& at) {
    const std::int64_t first = at.row.output + at.column * inner.output;  // in bits
    if (bits <= 8 && inner.output == bits) {
      CodeUnit unit;
      unit_codes<T>(problem, table, at, [&](int i, std::uint32_t code) {
        if (i < at.count) unit.put(i, bits, code);
      });
      unit.store(codes + first / 8, (at.count * bits + 7) / 8);
      return;
    }
    unit_codes<T>(problem, table, at, [&](int i, std::uint32_t code) {
      if (i >= at.count) return;
      std::uint8_t* const to = codes + (first + i * inner.output) / 8;
      if (bits > 8) {
        *reinterpret_cast<std::uint16_t*>(to) = static_cast<std::uint16_t>(code);
      } else {
        *to = static_cast<std::uint8_t>(code);
      }
    });
  });
}

// Kept parameters. A is the type of the arithmetic, whatever the result's.
template <class A>
__device__ __forceinline__ QuantizeParams<A> kept_params(const Problem<A>& problem, Place row,
                                                         std::int64_t column) {
  row.move_blocks(problem.inner(), problem.block_of(column));
  const A zero = zero_point_at<A>(problem.args, row.zero_point);
  if (problem.rule.scales == ScaleKind::kAny) {
    return {A(0), static_cast<const A*>(problem.args.scale)[row.scale], zero};
  }
  const std::uint8_t byte = static_cast<const std::uint8_t*>(problem.args.scale)[row.scale];
  if (problem.rule.scales == ScaleKind::kPowerOfTwo) return {A(0), A(power_from_byte(byte)), zero};
  return {A(0), *problem.rule.tensor_scale * A(block_scale_from_byte(byte)), zero};
}

// The codes of a unit, wherever they begin.
template <class A>
__device__ __forceinline__ std::uint32_t code_at(const Problem<A>& problem, std::int64_t at) {
  const auto* const codes = static_cast<const std::uint8_t*>(problem.args.input);
  const int bits = problem.rule.bits;
  if (bits > 8) return *reinterpret_cast<const std::uint16_t*>(codes + at / 8);
  const int shift = static_cast<int>(at % 8);
  std::uint32_t word = codes[at / 8];
  if (shift + bits > 8) word |= std::uint32_t{codes[at / 8 + 1]} << 8;
  return word >> shift & ((1u << bits) - 1);
}

template <class T, class A>
__global__ void __launch_bounds__(kThreads)
    values_kernel(const __grid_constant__ Problem<A> problem,
                  const __grid_constant__ Divider row_units, std::int64_t units) {
  const QuantizeDim& inner = problem.inner();
  const int bits = problem.rule.bits;
  for_each_unit(problem, row_units, units, [&](const UnitPlace& at) {
    const std::int64_t first = at.row.input + at.column * inner.input;  // in bits
    const bool packed = bits <= 8 && inner.input == bits && first % 8 == 0;
    CodeUnit unit;
    if (packed) {
      unit.load(static_cast<const std::uint8_t*>(problem.args.input) + first / 8,
                (at.count * bits + 7) / 8);
    }
    const bool one = problem.block_of(at.column) == problem.block_of(at.column + at.count - 1);
    const QuantizeParams<A> params = kept_params(problem, at.row, at.column);
    constexpr bool kWide = kLargestNumber<A> < kLargestNumber<T>;
    const A most = number<A>(kWide ? kLargestNumber<A> : kLargestNumber<T>);
    A values[kUnit] = {};
#pragma unroll
    for (int i = 0; i < kUnit; ++i) {
      if (i >= at.count) continue;
      const std::uint32_t code =
          packed ? unit.get(i, bits) : code_at(problem, first + i * inner.input);
      const QuantizeParams<A> of = one ? params : kept_params(problem, at.row, at.column + i);
      const A unscaled = value_of(code, problem.rule) - of.zero_point;
      values[i] = unscaled * of.scale;
      if (lt(most, magnitude(values[i]))) values[i] = saturated(values[i], unscaled, of, most);
    }
    T* const row = static_cast<T*>(problem.args.output) + at.row.output;
    store_unit(values, row + at.column * inner.output, inner.output, at.count, problem.whole);
  });
}

// Units of a row of codes of a byte each, packed and unpacked.
template <bool kPack>
__global__ void __launch_bounds__(kThreads)
    bits_kernel(const __grid_constant__ BitRows rows, const __grid_constant__ Divider row_units,
                std::int64_t units) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  const auto* const from = static_cast<const std::uint8_t*>(rows.from);
  auto* const to = static_cast<std::uint8_t*>(rows.to);
  const std::uint32_t mask = (1u << rows.bits) - 1;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < units; i += step) {
    const std::int64_t row = row_units.quotient(i);
    const std::int64_t number = i - row * row_units.divisor();
    const int count = elements_left<kUnit>(rows.count - number * kUnit);
    const int bytes = (count * rows.bits + 7) / 8;
    const std::int64_t codes = row * rows.count + number * kUnit;
    const std::int64_t packed = row * rows.bytes() + number * rows.bits;
    CodeUnit unit, wide;
    if constexpr (kPack) {
      wide.load(from + codes, count);
      for (int k = 0; k < kUnit; ++k) {
        if (k < count) unit.put(k, rows.bits, wide.get(k, 8) & mask);
      }
      unit.store(to + packed, bytes);
    } else {
      unit.load(from + packed, bytes);
      for (int k = 0; k < kUnit; ++k) wide.put(k, 8, unit.get(k, rows.bits));
      wide.store(to + codes, count);
    }
  }
}

struct Units {
  Divider row;
  std::int64_t all;

  explicit Units(const FakeQuantizeArgs& args)
      : row(divide_up(inner_of(args).size, kUnit)),
        all(args.elements() / inner_of(args).size * row.divisor()) {}
};

constexpr std::int64_t kTables = 5;  // extremes, two of them; parameters, three

// The scale of a tensor without elements.
template <class A>
__global__ void empty_scale_kernel(const __grid_constant__ RuleNumbers<A> rule, void* scale) {
  if (blockIdx.x != 0 || threadIdx.x != 0) return;
  *static_cast<A*>(scale) = choose_tensor_scale<A>(A(0), rule);
}

template <class A>
void quantize_nothing(const QuantizeArgs& args, const Launch& on) {
  if (args.chosen.tensor_scale == nullptr) return;
  launch(on, empty_scale_kernel<A>, 1, kWarp, RuleNumbers<A>(args.problem.rule, nullptr),
         args.chosen.tensor_scale);
}

template <class T>
void quantize_as(QuantizeArgs args, FakeQuantizeArgs problem, void* workspace, const Launch& on) {
  using A = Arithmetic<T>;
  ParamTable<A> table = {};
  if (problem.dynamic()) {
    if (problem.rule.scales == ScaleKind::kTwoLevels) {
      find_tensor_scale<T>(problem, workspace, on);
    }
    const std::int64_t blocks = assign_block_strides(problem);
    auto* const extremes =
        reinterpret_cast<Key<A>*>(static_cast<char*>(workspace) + kTensorScaleBytes);
    const KeyTable<A> keys = {extremes, extremes + blocks};
    const auto bytes = static_cast<std::size_t>(2 * blocks) * sizeof(Key<A>);
    check(cudaMemsetAsync(extremes, 0, bytes, on.stream), "clearing a workspace");
    auto* const params = reinterpret_cast<A*>(extremes + 2 * blocks);
    table = {params, params + blocks, params + 2 * blocks};
    const Problem<A> dynamic(problem, input_vectors_fit(problem));
    const QuantizeDim& inner = dynamic.inner();
    if (inner.block % kVectorOf<T> == 0 || inner.block >= inner.size) {
      find_extremes<T, kVectorOf<T>>(dynamic, keys, on);
    } else {
      find_extremes<T, 1>(dynamic, keys, on);
    }
    launch(on, choose_codes_kernel<A>, divide_up(blocks, kThreads), kThreads, dynamic.rule, keys,
           table, args.chosen, blocks);
  }
  if (!args.has_codes()) return;
  const Units units(problem);
  launch(on, codes_kernel<T>, divide_up(units.all, kThreads), kThreads,
         Problem<A>(problem, input_vectors_fit(problem)), table, units.row, units.all);
}

template <class T, class A>
void dequantize_as(const FakeQuantizeArgs& problem, const Launch& on) {
  const Units units(problem);
  launch(on, values_kernel<T, A>, divide_up(units.all, kThreads), kThreads,
         Problem<A>(problem, output_vectors_fit(problem)), units.row, units.all);
}

template <class T>
void dequantize_to(const DequantizeArgs& args, const FakeQuantizeArgs& problem, const Launch& on) {
  if (args.wide) return dequantize_as<T, double>(problem, on);
  dequantize_as<T, float>(problem, on);
}

template <bool kPack>
void run_bits(const BitRows& rows, const Launch& on) {
  if (rows.rows * rows.count == 0) return;
  const Divider row_units(divide_up(rows.count, kUnit));
  const std::int64_t units = rows.rows * row_units.divisor();
  launch(on, bits_kernel<kPack>, divide_up(units, kThreads), kThreads, rows, row_units, units);
}

}  // namespace
}  // namespace strop::quantize::cuda

namespace strop::quantize {

std::size_t workspace_bytes(const QuantizeArgs& args, const Launch&) {
  if (!args.problem.dynamic() || args.problem.elements() == 0) return 0;
  FakeQuantizeArgs problem = simplified(args.problem, true);
  const std::size_t item = problem.dtype == DType::kFloat64 ? sizeof(double) : sizeof(float);
  return cuda::kTensorScaleBytes +
         static_cast<std::size_t>(cuda::kTables * assign_block_strides(problem)) * item;
}

void run(const QuantizeArgs& args, void* workspace, const Launch& on) {
  if (args.problem.elements() == 0) {
    return args.problem.dtype == DType::kFloat64 ? cuda::quantize_nothing<double>(args, on)
                                                 : cuda::quantize_nothing<float>(args, on);
  }
  const FakeQuantizeArgs problem = simplified(args.problem, true);
  by_dtype(problem.dtype, [&]<class T>() { cuda::quantize_as<T>(args, problem, workspace, on); });
}

void run(const DequantizeArgs& args, const Launch& on) {
  if (args.problem.elements() == 0) return;
  const FakeQuantizeArgs problem = simplified(args.problem);
  by_dtype(problem.dtype, [&]<class T>() { cuda::dequantize_to<T>(args, problem, on); });
}

void run(const PackArgs& rows, const Launch& on) { cuda::run_bits<true>(rows, on); }
void run(const UnpackArgs& rows, const Launch& on) { cuda::run_bits<false>(rows, on); }

}  // namespace strop::quantize
