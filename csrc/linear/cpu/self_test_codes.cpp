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
  bool masked = false;
};
constexpr Case kCases[] = {
    {"int8", Activations::kUInt8, false, true}, {"int4", Activations::kInt8, false, true},
    {"int8", Activations::kExact, false, true}, {"nf4", Activations::kExact, false, true},
    {"int8", Activations::kInt8, false},        {"uint8", Activations::kUInt8, true},
    {"int4", Activations::kInt8, false},        {"uint4", Activations::kUInt8, true},
    {"int8", Activations::kExact, false},       {"uint4", Activations::kExact, true},
    {"nf4", Activations::kExact, false},        {"float6_e3m2fn", Activations::kExact, false},
};

// Sums of integers agree to the bit, others to a part of their size.
template <class T>
std::string run_rows(Isa isa, const Case& each, const std::vector<std::uint8_t>& layout,
                     std::int64_t rows) {
  std::vector<T> x;
  for (const float v : sample_values(rows * kColumns, true)) x.push_back(FromFloat<T>::call(v));
  std::vector<T> results(static_cast<std::size_t>(rows * kRows)), references = results;
  CodedLinearArgs args = {{.dtype = dtype_of<T>,
                           .rows = rows,
                           .x = x.data(),
                           .x_stride = kColumns,
                           .y = references.data(),
                           .y_stride = kRows,
                           .bias = nullptr,
                           .bias_dtype = DType::kFloat32,
                           .activation = Activation::kNone},
                          layout.data()};
  run(args, Oracle{});
  args.y = results.data();
  run(args, {.isa = isa});
  const float rounding = sizeof(T) == 4 ? 1e-3f : 1e-2f;
  const float part = each.activations == Activations::kExact ? rounding : 0.0f;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const float actual = to_float(results[i]), expected = to_float(references[i]);
    if (std::abs(actual - expected) <= part * (1 + std::abs(expected))) continue;
    return "packed_linear of " + std::to_string(rows) + " rows, " + each.format + ", element " +
           std::to_string(i) + ": " + std::to_string(actual) + ", not " + std::to_string(expected);
  }
  return {};
}

// The code of 0 where no bit is set.
std::vector<std::uint8_t> kept_codes(const Case& each, std::vector<std::uint8_t> codes,
                                     const std::vector<std::uint8_t>& bits) {
  constexpr std::int64_t kRowBytes = (kColumns + 7) / 8;
  const NumberFormat& format = *find_number_format(each.format);
  std::uint8_t zero = 0;
  while (format.value(zero) != 0) ++zero;
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
    const std::int64_t n = i / kColumns, k = i % kColumns;
    const unsigned byte = bits[static_cast<std::size_t>(n * kRowBytes + k / 8)];
    if ((byte >> k % 8 & 1) == 0) codes[static_cast<std::size_t>(i)] = zero;
  }
  return codes;
}

}  // namespace

std::string self_test_codes(Isa isa) {
  constexpr std::int64_t kGroups = (kColumns + kGroup - 1) / kGroup;
  std::vector<std::uint8_t> codes(kRows * kColumns);
  std::vector<float> scales(kRows * kGroups), zeros(kRows * kGroups);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::uint8_t>(i * 91 >> 3);
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = 0x1p-8f * static_cast<float>(1 << i % 3);  // so that few weights are rounded
    zeros[i] = static_cast<float>(i % 9);
  }
  // Bits for some of the columns; the code of 0 stands elsewhere.
  constexpr std::int64_t kRowBytes = (kColumns + 7) / 8;
  std::vector<std::uint8_t> bits(kRows * kRowBytes);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint8_t>(i * 73 >> 2);
  for (const Case& each : kCases) {
    const std::vector<std::uint8_t> kept = each.masked ? kept_codes(each, codes, bits) : codes;
    const auto layout = build_codes_layout({.format = find_number_format(each.format),
                                            .activations = each.activations,
                                            .rows = kRows,
                                            .columns = kColumns,
                                            .group = kGroup,
                                            .codes = kept.data(),
                                            .scales = scales.data(),
                                            .zeros = each.zeros ? zeros.data() : nullptr,
                                            .bits = each.masked ? bits.data() : nullptr});
    for (const std::int64_t rows : {1, 3, 9}) {
      const std::string problem = run_rows<float>(isa, each, layout, rows);
      if (!problem.empty()) return problem;
    }
    const std::string problem = run_rows<BFloat16>(isa, each, layout, 9);
    if (!problem.empty()) return problem;
  }
  return {};
}

}  // namespace strop::linear::cpu
