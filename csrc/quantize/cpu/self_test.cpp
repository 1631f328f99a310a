#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/self_test_samples.h"
#include "quantize/codes_arguments.h"

namespace strop::quantize::cpu {

std::string self_test_gradients(Isa isa);  // self_test_gradient.cpp
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

enum class Scales { kGiven, kGivenFloatingZero, kGivenAlone, kSymmetric, kAsymmetric };

// A format, and how its scales are found.
struct Case {
  const char* format;
  Scales scales;
  bool any_rounding = true;
};

constexpr Case kCases[] = {
    {"int16", Scales::kGiven},
    {"integer", Scales::kGivenAlone},
    {"int8", Scales::kGivenFloatingZero},
    {"int8", Scales::kSymmetric},
    {"int8", Scales::kAsymmetric},
    {"float6_e2m3fn", Scales::kSymmetric},
    {"mxfp8_e5m2", Scales::kSymmetric},
    {"nvfp4", Scales::kSymmetric},
    {"nf4", Scales::kSymmetric, false},
};

template <class T>
std::string run_one(Isa isa, const Layout& layout, Rounding rounding, const Case& of) {
  const Scales scales = of.scales;
  const std::int64_t spread = layout.strided ? 3 : 1;
  const std::int64_t shape[2] = {layout.rows, layout.columns};
  const std::int64_t stride[2] = {layout.columns * spread + (layout.strided ? 5 : 0), spread};
  const std::int64_t count = stride[0] * layout.rows;
  const bool given = scales < Scales::kSymmetric;
  std::vector<T> input = stored<T>(sample_values(count, !given));
  std::vector<T> expected(input.size()), padded(input.size() + 64 / sizeof(T));
  T* const actual = to_cache_line(padded.data());
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
  request.format = of.format;
  if (!find_number_format(of.format)->is_recipe()) {
    request.block_size = {layout.block_rows, layout.block_columns};
  }
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
    if (scales == Scales::kGiven) {
      tensors.zero_point = view_of(zero.data(), DType::kInt8, grid, grid_stride);
    } else if (scales == Scales::kGivenFloatingZero) {
      tensors.zero_point = view_of(floating_zero.data(), DType::kFloat32, grid, grid_stride);
    }
    args = fake_quantize_args(spec, tensors, 42);
  }
  run(args, Oracle{});
  args.output = actual;
  // Of both kinds of stores; streaming ones only a large output gets otherwise.
  const std::int64_t stream_bytes = request.symmetric ? 0 : kStreamBytes;
  run(args, {.isa = isa, .stream_bytes = stream_bytes});
  for (std::size_t i = 0; i < input.size(); ++i) {
    if (agree(expected[i], actual[i])) continue;
    return std::string("fake_quantize ") + dtype_name(dtype_of<T>) + " " + request.rounding +
           " element " + std::to_string(i) + ": " + std::to_string(to_float(actual[i])) + ", not " +
           std::to_string(to_float(expected[i]));
  }
  return {};
}

template <class T>
std::string run_all(Isa isa) {
  for (int rounding = 0; rounding < kRoundings; ++rounding) {
    for (const Layout& layout : kLayouts) {
      for (const Case& of : kCases) {
        if (rounding > 0 && !of.any_rounding) continue;
        const std::string problem = run_one<T>(isa, layout, static_cast<Rounding>(rounding), of);
        if (!problem.empty()) return problem;
      }
    }
  }
  return {};
}

// Codes, and what they restore, of a few formats.
template <class T>
std::string run_codes(Isa isa, const char* format) {
  const std::int64_t shape[2] = {5, 139}, stride[2] = {139, 1};
  std::vector<T> input = stored<T>(sample_values(5 * 139, true));
  QuantizeRequest request;
  request.format = format;
  const QuantizeSpec spec = make_quantize_spec("strop self-test", request);
  const TensorView view = view_of(input.data(), dtype_of<T>, shape, stride);
  const std::vector<std::int64_t> bytes = codes_shape(spec, view);
  const std::size_t count = static_cast<std::size_t>(bytes[0] * bytes[1]) * sizeof(std::uint16_t);
  std::vector<std::uint8_t> expected(count), actual(count), scales(5 * 9 * sizeof(float));
  std::vector<T> restored(input.size()), wanted(input.size());
  float tensor_scale = 0;
  QuantizeTensors tensors{};
  tensors.forward.input = view;
  tensors.codes = view_of(expected.data(), codes_dtype(spec), shape, stride);
  tensors.chosen_scale =
      view_of(scales.data(), chosen_scale_dtype(spec, view.dtype), shape, stride);
  tensors.chosen_tensor_scale = view_of(&tensor_scale, DType::kFloat32, shape, stride);
  QuantizeArgs args = quantize_args(spec, tensors, 0);
  run(args, Oracle{});
  args.problem.output = actual.data();
  run(args, {.isa = isa});
  if (expected != actual) return std::string("quantize to ") + format + ": codes differ";
  const std::vector<std::int64_t> grid = blocks_shape(spec, view);
  const std::int64_t grid_stride[2] = {grid[1], 1}, codes_stride[2] = {bytes[1], 1};
  DequantizeTensors kept{};
  kept.codes = view_of(actual.data(), codes_dtype(spec), bytes.data(), codes_stride);
  kept.scale = view_of(scales.data(), tensors.chosen_scale.dtype, grid.data(), grid_stride);
  if (spec.format.scales == ScaleKind::kTwoLevels) kept.tensor_scale = tensors.chosen_tensor_scale;
  kept.output = view_of(restored.data(), dtype_of<T>, shape, stride);
  DequantizeArgs back = dequantize_args(spec, kept);
  run(back, {.isa = isa});
  back.problem.output = wanted.data();
  run(back, Oracle{});
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (!agree(wanted[i], restored[i])) return std::string("dequantize from ") + format;
  }
  return {};
}

template <class T>
std::string run_all_codes(Isa isa) {
  for (const char* format : {"int3", "int4", "int8", "int16", "float8_e4m3fn", "float6_e3m2fn",
                             "nf4", "mxfp4", "nvfp4"}) {
    const std::string problem = run_codes<T>(isa, format);
    if (!problem.empty()) return problem;
  }
  return {};
}

}  // namespace

std::string self_test(Isa isa) {
  for (const auto test : {run_all<float>, run_all<BFloat16>, run_all<Float16>, self_test_gradients,
                          run_all_codes<float>, run_all_codes<BFloat16>, run_all_codes<Float16>}) {
    const std::string problem = test(isa);
    if (!problem.empty()) return problem;
  }
  return {};
}

}  // namespace strop::quantize::cpu
