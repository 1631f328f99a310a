#include "cpu/self_test.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cpu/self_test_samples.h"
#include "kernels/quantize_arguments.h"
#include "reference/quantize.h"

namespace strop::cpu {
namespace {

// A small problem: a shape and its blocks, every stride odd where `strided`.
struct Layout {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t block_rows;
  std::int64_t block_columns;
  bool strided;
};

constexpr Layout kLayouts[] = {
    {1, 203, 1, -1, false},  // one run, a rest
    {6, 96, 1, 32, false},   // groups
    {5, 37, 2, 5, false},    // groups that no vector fits
    {9, 45, -1, 1, false},   // by column
    {6, 70, 4, 64, true},    // tiles of a strided tensor, all of them short somewhere
};

template <class T>
T* to_cache_line(T* within) {
  const auto address = reinterpret_cast<std::uintptr_t>(within);
  return within + (64 - address % 64) % 64 / sizeof(T);
}

enum class Scales { kGiven, kGivenFloatingZero, kSymmetric, kAsymmetric };

template <class T>
std::string run_one(const QuantizeKernels& kernels, const Layout& layout, Rounding rounding,
                    Scales scales) {
  const std::int64_t spread = layout.strided ? 3 : 1;
  const std::int64_t shape[2] = {layout.rows, layout.columns};
  const std::int64_t stride[2] = {layout.columns * spread + (layout.strided ? 5 : 0), spread};
  const std::int64_t count = stride[0] * layout.rows;
  const bool given = scales == Scales::kGiven || scales == Scales::kGivenFloatingZero;
  std::vector<T> input = stored<T>(sample_values(count, !given));
  std::vector<T> expected(input.size()), room(input.size() + 64 / sizeof(T));
  T* const actual = to_cache_line(room.data());
  std::vector<float> scale = sample_values(count, true);
  // Every other block's results are multiples of 3/128, many of them 9 bits long: ties for bfloat16
  // to round, which a power of two would not give, the input having 8 bits itself.
  for (std::size_t i = 0; i < scale.size(); ++i) {
    scale[i] = i % 2 == 0 ? 0x3p-7f : std::fabs(scale[i]) / 16 + 0.01f;
  }
  std::vector<float> floating_zero = sample_values(count, true);
  std::vector<std::int8_t> zero(scale.size());
  for (std::size_t i = 0; i < zero.size(); ++i) zero[i] = static_cast<std::int8_t>(i % 13) - 6;

  QuantizeRequest request;
  request.format = scales == Scales::kGiven ? "int16" : "int8";
  request.whole = false;
  request.block_size = {layout.block_rows, layout.block_columns};
  request.rounding = kRoundingNames[static_cast<int>(rounding)];
  request.symmetric = scales != Scales::kAsymmetric;
  const QuantizeSpec spec = make_quantize_spec("strop self-test", request);
  FakeQuantizeTensors tensors;
  tensors.input = view_of(input.data(), dtype_of<T>, shape, stride);
  tensors.output = view_of(expected.data(), dtype_of<T>, shape, stride);
  FakeQuantizeArgs args = fake_quantize_args(spec, tensors, 42);
  const std::int64_t grid[2] = {args.dim[0].blocks(), args.dim[1].blocks()};
  const std::int64_t grid_stride[2] = {grid[1], 1};
  if (given) {
    tensors.scale = view_of(scale.data(), DType::kFloat32, grid, grid_stride);
    tensors.zero_point = scales == Scales::kGiven
                             ? view_of(zero.data(), DType::kInt8, grid, grid_stride)
                             : view_of(floating_zero.data(), DType::kFloat32, grid, grid_stride);
    args = fake_quantize_args(spec, tensors, 42);
  }
  reference::fake_quantize(args);
  args.output = actual;
  // Of both kinds of stores; streaming ones only a large output gets otherwise.
  const std::int64_t stream_bytes = request.symmetric ? 0 : kStreamBytes;
  fake_quantize(args, Parallel{}, {.kernels = &kernels, .stream_bytes = stream_bytes});
  for (std::size_t i = 0; i < input.size(); ++i) {
    if (agree(expected[i], actual[i])) continue;
    return std::string("fake_quantize ") + dtype_name(dtype_of<T>) + " " + request.rounding +
           " element " + std::to_string(i) + ": " + std::to_string(to_float(actual[i])) + ", not " +
           std::to_string(to_float(expected[i]));
  }
  return {};
}

template <class T>
std::string run_all(const QuantizeKernels& kernels) {
  for (int rounding = 0; rounding < kRoundings; ++rounding) {
    for (const Layout& layout : kLayouts) {
      for (const Scales scales :
           {Scales::kGiven, Scales::kGivenFloatingZero, Scales::kSymmetric, Scales::kAsymmetric}) {
        std::string problem = run_one<T>(kernels, layout, static_cast<Rounding>(rounding), scales);
        if (!problem.empty()) return problem;
      }
    }
  }
  return {};
}

}  // namespace

std::string self_test(const Kernels& kernels) {
  std::string problem = run_all<float>(kernels.quantize);
  if (problem.empty()) problem = run_all<BFloat16>(kernels.quantize);
  if (problem.empty()) problem = run_all<Float16>(kernels.quantize);
  if (problem.empty()) problem = self_test_gradients(kernels);
  return problem;
}

}  // namespace strop::cpu
