#include <cmath>

#include "core/self_test_samples.h"
#include "linear/codes.h"
#include "linear/cpu/self_test.h"

namespace strop::linear::cpu {
namespace {

constexpr std::int64_t kRows = 37, kColumns = 150, kGroup = 40;

struct Case {
  const char* format;
  Activations activations;
  bool zeros;
};
constexpr Case kCases[] = {
    {"int8", Activations::kInt8, false},  {"uint8", Activations::kUInt8, true},
    {"int4", Activations::kInt8, false},  {"uint4", Activations::kUInt8, true},
    {"int8", Activations::kExact, false}, {"uint4", Activations::kExact, true},
    {"nf4", Activations::kExact, false},  {"float6_e3m2fn", Activations::kExact, false},
};

// Sums of integers agree to the bit, others to a part of their size.
std::string run_rows(Isa isa, const Case& each, const std::vector<std::uint8_t>& layout,
                     std::int64_t rows) {
  const std::vector<float> x = sample_values(rows * kColumns, true);
  std::vector<float> actual(static_cast<std::size_t>(rows * kRows)), expected = actual;
  CodedLinearArgs args = {{.dtype = DType::kFloat32,
                           .rows = rows,
                           .x = x.data(),
                           .x_stride = kColumns,
                           .y = expected.data(),
                           .y_stride = kRows,
                           .bias = nullptr,
                           .bias_dtype = DType::kFloat32,
                           .activation = Activation::kNone},
                          layout.data()};
  run(args, Oracle{});
  args.y = actual.data();
  run(args, {.isa = isa});
  const float part = each.activations == Activations::kExact ? 1e-3f : 0.0f;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::abs(actual[i] - expected[i]) <= part * (1 + std::abs(expected[i]))) continue;
    return "packed_linear of " + std::to_string(rows) + " rows, " + each.format + ", element " +
           std::to_string(i) + ": " + std::to_string(actual[i]) + ", not " +
           std::to_string(expected[i]);
  }
  return {};
}

}  // namespace

std::string self_test_codes(Isa isa) {
  constexpr std::int64_t kGroups = (kColumns + kGroup - 1) / kGroup;
  std::vector<std::uint8_t> codes(kRows * kColumns);
  std::vector<float> scales(kRows * kGroups), zeros(kRows * kGroups);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i * 91 >> 3);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = 0x1p-8f * static_cast<float>(i % 7 + 1);
    zeros[i] = static_cast<float>(i % 9);
  }
  for (const Case& each : kCases) {
    const auto layout = build_codes_layout({.format = find_number_format(each.format),
                                            .activations = each.activations,
                                            .rows = kRows,
                                            .columns = kColumns,
                                            .group = kGroup,
                                            .codes = codes.data(),
                                            .scales = scales.data(),
                                            .zeros = each.zeros ? zeros.data() : nullptr});
    for (const std::int64_t rows : {1, 3, 9}) {
      const std::string problem = run_rows(isa, each, layout, rows);
      if (!problem.empty()) return problem;
    }
  }
  return {};
}

}  // namespace strop::linear::cpu
