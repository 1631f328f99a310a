#include <cmath>
#include <cstring>
#include <optional>

#include "quantize/codes.h"
#include "quantize/reference/choice.h"
#include "quantize/reference/fake_quantize.h"
#include "quantize/reference/number_grid.h"

namespace strop::quantize::reference {
namespace {

void write_bits(std::uint8_t* to, std::int64_t at, int bits, std::uint32_t code) {
  for (int i = 0; i < bits; ++i, ++at) {
    const auto bit = static_cast<std::uint8_t>(1u << at % 8);
    if (code >> i & 1u) {
      to[at / 8] |= bit;
    } else {
      to[at / 8] = static_cast<std::uint8_t>(to[at / 8] & ~bit);
    }
  }
}

std::uint32_t read_bits(const std::uint8_t* from, std::int64_t at, int bits) {
  std::uint32_t code = 0;
  for (int i = 0; i < bits; ++i, ++at) code |= (from[at / 8] >> at % 8 & 1u) << i;
  return code;
}

std::int64_t offset(const FakeQuantizeArgs& args, const Block& block,
                    std::int64_t QuantizeDim::* step) {
  std::int64_t at = 0;
  for (int d = 0; d < args.dims; ++d) at += block.at[d] * args.dim[d].*step;
  return at;
}

template <class T>
std::uint32_t code_of(T x, const Parameters<T>& p, const FakeQuantizeArgs& args,
                      const ValueGrid* grid, T u) {
  if (grid != nullptr) return grid->code(grid->nearest(x * p.inverse, u));
  const T code = args.zero_point_is_floating()
                     ? rounded(args.rule.rounding, x * p.inverse + p.zero_point, u)
                     : rounded(args.rule.rounding, x * p.inverse, u) + p.zero_point;
  if (code != code) return 0;
  const T low = static_cast<T>(args.rule.quant_min), high = static_cast<T>(args.rule.quant_max);
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(std::clamp(code, low, high)));
}

template <class T>
void write_chosen(const QuantizeArgs& args, std::int64_t at, const Parameters<T>& p) {
  const FakeQuantizeArgs& problem = args.problem;
  if (args.chosen.zero_point != nullptr) {
    args.chosen.zero_point[at] = p.scale == p.scale ? static_cast<std::int32_t>(p.zero_point) : 0;
  }
  auto* const bytes = static_cast<std::uint8_t*>(args.chosen.scale);
  if (problem.rule.scales == ScaleKind::kPowerOfTwo) {
    bytes[at] = p.scale != p.scale ? 255 : static_cast<std::uint8_t>(std::ilogb(p.scale) + 127);
  } else if (problem.rule.scales == ScaleKind::kTwoLevels) {
    const T tensor_scale = *static_cast<const T*>(problem.tensor_scale);
    const ValueGrid grid = grid_of_block_scales();
    const T scale = grid.nearest(T(1) / tensor_scale / p.inverse, T(0));
    bytes[at] = static_cast<std::uint8_t>(grid.code(scale));
  } else {
    static_cast<T*>(args.chosen.scale)[at] = p.scale;
  }
}

template <class T, class Storage>
void quantize_block(const QuantizeArgs& args, const Block& block, const ValueGrid* grid) {
  const FakeQuantizeArgs& problem = args.problem;
  const Parameters<T> p = parameters_of<T, Storage>(problem, block);
  if (problem.dynamic()) write_chosen(args, offset(problem, block, &QuantizeDim::scale), p);
  if (!args.has_codes()) return;
  const auto* input = static_cast<const Storage*>(problem.input);
  for_each_element(problem, block, [&](std::int64_t from, std::int64_t to, std::int64_t index) {
    const T u = random_number<T>(problem, index);
    const std::uint32_t code = code_of<T>(to_float(input[from]), p, problem, grid, u);
    write_bits(static_cast<std::uint8_t*>(problem.output), to, problem.rule.bits, code);
  });
}

// A scale as it is kept, and the zero point.
template <class T>
Parameters<T> kept_parameters(const DequantizeArgs& args, const Block& block) {
  const FakeQuantizeArgs& problem = args.problem;
  if (problem.rule.scales == ScaleKind::kAny) return given_parameters<T>(problem, block);
  const std::uint8_t byte =
      static_cast<const std::uint8_t*>(problem.scale)[offset(problem, block, &QuantizeDim::scale)];
  if (problem.rule.scales == ScaleKind::kPowerOfTwo) {
    return {byte == 255 ? static_cast<T>(std::nan("")) : std::ldexp(T(1), byte - 127), T(0)};
  }
  const T tensor_scale = *static_cast<const T*>(problem.tensor_scale);
  return {tensor_scale * static_cast<T>(find_number_format("float8_e4m3fn")->value(byte)), T(0)};
}

template <class T, class Storage>
void dequantize_as(const DequantizeArgs& args) {
  const FakeQuantizeArgs& problem = args.problem;
  const auto* codes = static_cast<const std::uint8_t*>(problem.input);
  const std::int64_t blocks = block_count(problem);
  for (std::int64_t number = 0; number < blocks; ++number) {
    const Block block = block_at(problem, number);
    const Parameters<T> p = kept_parameters<T>(args, block);
    for_each_element(problem, block, [&](std::int64_t from, std::int64_t to, std::int64_t) {
      const int code = static_cast<int>(read_bits(codes, from, problem.rule.bits));
      const T kept = static_cast<T>(args.format.value(code));
      static_cast<Storage*>(problem.output)[to] =
          stored<T, Storage>((kept - p.zero_point) * p.scale, std::isinf(kept) || p.has_inf());
    });
  }
}

// Padding at the ends of rows is 0.
void clear_codes(const FakeQuantizeArgs& problem) {
  std::int64_t last = problem.rule.bits;
  for (int d = 0; d < problem.dims; ++d) last += (problem.dim[d].size - 1) * problem.dim[d].output;
  std::memset(problem.output, 0, static_cast<std::size_t>((last + 7) / 8));
}

}  // namespace
}  // namespace strop::quantize::reference

namespace strop::quantize {

void run(const QuantizeArgs& original, Oracle) {
  using namespace reference;
  QuantizeArgs args = original;
  double tensor_scale = 0;
  args.problem = prepared(original.problem, tensor_scale);
  by_arithmetic(args.problem.dtype, [&]<class T, class Storage>() {
    if (args.chosen.tensor_scale != nullptr) {
      std::memcpy(args.chosen.tensor_scale, &tensor_scale, sizeof(T));
    }
    std::optional<ValueGrid> grid;
    if (args.problem.rule.grid != Grid::kInteger) grid.emplace(args.problem.rule);
    const std::int64_t blocks = block_count(args.problem);
    if (blocks > 0 && args.has_codes()) clear_codes(args.problem);
    for (std::int64_t i = 0; i < blocks; ++i) {
      quantize_block<T, Storage>(args, block_at(args.problem, i), grid ? &*grid : nullptr);
    }
  });
}

void run(const DequantizeArgs& args, Oracle) {
  reference::by_arithmetic(args.problem.dtype, [&]<class, class Storage>() {
    if (args.wide) {
      reference::dequantize_as<double, Storage>(args);
    } else {
      reference::dequantize_as<float, Storage>(args);
    }
  });
}

void run(const PackArgs& rows, Oracle) {
  const auto* from = static_cast<const std::uint8_t*>(rows.from);
  auto* to = static_cast<std::uint8_t*>(rows.to);
  std::memset(to, 0, static_cast<std::size_t>(rows.rows * rows.bytes()));
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    for (std::int64_t i = 0; i < rows.count; ++i) {
      reference::write_bits(to + row * rows.bytes(), i * rows.bits, rows.bits,
                            from[row * rows.count + i]);
    }
  }
}

void run(const UnpackArgs& rows, Oracle) {
  const auto* from = static_cast<const std::uint8_t*>(rows.from);
  auto* to = static_cast<std::uint8_t*>(rows.to);
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    for (std::int64_t i = 0; i < rows.count; ++i) {
      to[row * rows.count + i] = static_cast<std::uint8_t>(
          reference::read_bits(from + row * rows.bytes(), i * rows.bits, rows.bits));
    }
  }
}

}  // namespace strop::quantize
