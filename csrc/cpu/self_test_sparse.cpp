#include "cpu/self_test.h"
#include "cpu/self_test_samples.h"
#include "reference/sparse.h"

namespace strop::cpu {
namespace {

constexpr std::int64_t kRows = 45, kColumns = 150;

struct Pruned {
  std::vector<std::uint8_t> bits;
  std::vector<float> values;

  // Keeps one weight in `one_in`, wherever chance has it; of each row of four the same where blocks
  // of four rows are pruned together, so that strips share columns.
  Pruned(unsigned one_in, bool together)
      : bits(static_cast<std::size_t>(kRows) * ((kColumns + 7) / 8)) {
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
  }

  SparseMatrix matrix() const {
    return {DType::kFloat32, kRows,         kColumns,
            bits.data(),     values.data(), static_cast<std::int64_t>(values.size())};
  }
};

std::string run_rows(const SparseKernels& kernels, const Pruned& weight, std::int64_t rows) {
  const std::vector<float> x = sample_values(rows * kColumns, true);
  const std::vector<float> bias = sample_values(kRows, true);
  std::vector<float> actual(static_cast<std::size_t>(rows * kRows)), expected = actual;
  SparseLinearArgs args = {.layout = nullptr,
                           .dtype = DType::kFloat32,
                           .rows = rows,
                           .x = x.data(),
                           .x_stride = kColumns,
                           .y = expected.data(),
                           .y_stride = kRows,
                           .bias = bias.data(),
                           .bias_dtype = DType::kFloat32,
                           .activation = static_cast<Activation>(rows % 5)};
  const auto plain = build_layout(weight.matrix(), LayoutChoice::kMask);
  args.layout = plain.data();
  reference::sparse_linear(args);
  args.y = actual.data();
  for (const auto choice : {LayoutChoice::kMask, LayoutChoice::kQuads, LayoutChoice::kPairs}) {
    const auto layout = build_layout(weight.matrix(), choice);
    args.layout = layout.data();
    sparse_linear(args, Parallel{}, kernels);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      if (std::abs(actual[i] - expected[i]) <= 1e-3f) continue;  // of sums of some hundreds
      return "sparse_linear of " + std::to_string(rows) + " rows, layout " +
             std::to_string(static_cast<int>(choice)) + ", element " + std::to_string(i) + ": " +
             std::to_string(actual[i]) + ", not " + std::to_string(expected[i]);
    }
  }
  return {};
}

}  // namespace

std::string self_test_sparse(const Kernels& kernels) {
  std::string problem;
  for (const unsigned one_in : {2u, 9u}) {
    const Pruned weight(one_in, one_in == 2);
    for (const std::int64_t rows : {1, 3, 14, 37, 40}) {  // (each another activation)
      if (problem.empty()) problem = run_rows(kernels.sparse, weight, rows);
    }
  }
  return problem;
}

}  // namespace strop::cpu
