#include "linear/cpu/self_test.h"

#include "core/self_test_samples.h"
#include "linear/codes.h"

namespace strop::linear::cpu {
namespace {

constexpr std::int64_t kRows = 45, kColumns = 150;

// Numbers in storage of a dtype.
std::vector<std::uint8_t> stored(const std::vector<float>& numbers, DType dtype) {
  std::vector<std::uint8_t> bytes;
  by_narrow_dtype(dtype, [&]<class T>() {
    for (const float number : numbers) {
      const T value = FromFloat<T>::call(number);
      const auto* const from = reinterpret_cast<const std::uint8_t*>(&value);
      bytes.insert(bytes.end(), from, from + sizeof value);
    }
  });
  return bytes;
}

struct Pruned {
  DType dtype;
  std::vector<std::uint8_t> bits;
  std::vector<std::uint8_t> stored_values;
  std::int64_t count;

  // Keeps one weight in `one_in`, wherever chance has it; of each row of four the same where blocks
  // of four rows are pruned together, so that strips share columns.
  Pruned(unsigned one_in, bool together, DType of)
      : dtype(of), bits(static_cast<std::size_t>(kRows) * ((kColumns + 7) / 8)) {
    std::vector<float> values;
    for (std::int64_t n = 0; n < kRows; ++n) {
      std::uint32_t state = static_cast<std::uint32_t>(together ? n / 4 : n) * 7919u + one_in;
      for (std::int64_t k = 0; k < kColumns; ++k) {
        state = state * 1664525u + 1013904223u;
        if ((state >> 16) % one_in != 0) continue;
        bits[static_cast<std::size_t>(n * ((kColumns + 7) / 8) + k / 8)] |=
            static_cast<std::uint8_t>(1u << k % 8);
        values.push_back(static_cast<float>(static_cast<std::int32_t>(state ^ (n << 9))) *
                         0x1p-31f);
      }
    }
    stored_values = stored(values, dtype);
    count = static_cast<std::int64_t>(values.size());
  }

  MaskedMatrix matrix() const {
    return {dtype, kRows, kColumns, bits.data(), stored_values.data(), count};
  }
};

// Of sums of some hundreds, or of what such a sum is rounded to.
std::string first_difference(const std::vector<std::uint8_t>& actual,
                             const std::vector<std::uint8_t>& expected, DType dtype) {
  std::string difference;
  by_narrow_dtype(dtype, [&]<class T>() {
    constexpr float step = sizeof(T) == 4 ? 0 : dtype_of<T> == DType::kFloat16 ? 0x1p-10f : 0x1p-7f;
    const auto* const a = reinterpret_cast<const T*>(actual.data());
    const auto* const e = reinterpret_cast<const T*>(expected.data());
    for (std::size_t i = 0; i < actual.size() / sizeof(T) && difference.empty(); ++i) {
      const float got = to_float(a[i]), wanted = to_float(e[i]);
      if (std::abs(got - wanted) <= 1e-3f + step * std::abs(wanted)) continue;
      difference = "element " + std::to_string(i) + ": " + std::to_string(got) + ", not " +
                   std::to_string(wanted);
    }
  });
  return difference;
}

std::string run_rows(Isa isa, const Pruned& weight, std::int64_t rows) {
  const std::vector<std::uint8_t> x = stored(sample_values(rows * kColumns, true), weight.dtype);
  const std::vector<std::uint8_t> bias = stored(sample_values(kRows, true), weight.dtype);
  const auto item = static_cast<std::size_t>(dtype_size(weight.dtype));
  std::vector<std::uint8_t> actual(static_cast<std::size_t>(rows * kRows) * item);
  std::vector<std::uint8_t> expected = actual;
  const auto plain = build_layout(weight.matrix(), LayoutChoice::kMask);
  MaskedLinearArgs args = {{.dtype = weight.dtype,
                            .rows = rows,
                            .x = x.data(),
                            .x_stride = kColumns,
                            .y = expected.data(),
                            .y_stride = kRows,
                            .bias = bias.data(),
                            .bias_dtype = weight.dtype,
                            .activation = static_cast<Activation>(rows % 5)},
                           plain.data()};
  run(args, Oracle{});
  args.y = actual.data();
  for (const auto choice :
       {LayoutChoice::kMask, LayoutChoice::kQuads, LayoutChoice::kPairs, LayoutChoice::kPanels}) {
    if (choice == LayoutChoice::kPanels && weight.dtype == DType::kFloat16) continue;
    const auto layout = build_layout(weight.matrix(), choice);
    args.layout = layout.data();
    const bool coded = args.header().kind == LayoutKind::kCodes;
    coded ? run(CodedLinearArgs{args, layout.data()}, {.isa = isa}) : run(args, {.isa = isa});
    const std::string difference = first_difference(actual, expected, weight.dtype);
    if (difference.empty()) continue;
    return "packed_linear of " + std::to_string(rows) + " rows, " + dtype_name(weight.dtype) +
           ", layout " + std::to_string(static_cast<int>(choice)) + ", " + difference;
  }
  return {};
}

}  // namespace

std::string self_test(Isa isa) {
  std::string problem;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16}) {
    for (const unsigned one_in : {2u, 9u}) {
      const Pruned weight(one_in, one_in == 2, dtype);
      for (const std::int64_t rows : {1, 3, 14, 37, 40}) {  // (each another activation)
        if (problem.empty()) problem = run_rows(isa, weight, rows);
      }
    }
  }
  return problem.empty() ? self_test_codes(isa) : problem;
}

}  // namespace strop::linear::cpu
