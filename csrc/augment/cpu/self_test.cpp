#include "augment/arguments.h"
#include "augment/kernels.h"
#include "core/self_test_samples.h"

namespace strop::augment::cpu {
namespace {

constexpr std::int64_t kImages = 4, kHeight = 7, kWidth = 21, kOutHeight = 5, kOutWidth = 43;
constexpr std::int64_t kInPixels = kHeight * kWidth, kOutPixels = kOutHeight * kOutWidth;

// A turn that leaves the image, a flip, one far away, and one that magnifies within.
constexpr float kMatrices[kImages][6] = {{0.71f, -0.45f, 1.5f, 0.32f, 0.62f, -3.25f},
                                         {-1, 0, 19, 0, 1, 2},
                                         {0.5f, 0.25f, -4000.5f, 0.125f, 0.75f, 9000.25f},
                                         {0.3f, 0.02f, 2.5f, 0.05f, 0.4f, 1.25f}};

struct Problem {
  DType in, out;
  std::int64_t channels;
  FillMode fill_mode;
  Interpolation interpolation;
  bool channels_last;
};

ImageStrides strides(std::int64_t channels, std::int64_t height, std::int64_t width, bool last) {
  if (last) return {channels * height * width, 1, width * channels, channels};
  return {channels * height * width, height * width, width, 1};
}

Warp warp_of(const Problem& p) {
  return {.batch = kImages,
          .channels = p.channels,
          .in_height = kHeight,
          .in_width = kWidth,
          .out_height = kOutHeight,
          .out_width = kOutWidth,
          .matrices = kMatrices[0],
          .matrix_strides = {6, 3, 1},
          .interpolation = p.interpolation,
          .fill_mode = p.fill_mode};
}

// Values of an image, as its dtype has them.
std::vector<std::uint8_t> stored_image(DType dtype, std::int64_t count) {
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(count));
  std::uint32_t state = 7;
  for (std::uint8_t& byte : bytes) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::uint8_t>(state >> 24);
  }
  if (dtype == DType::kUInt8) return bytes;
  std::vector<std::uint8_t> result(bytes.size() * static_cast<std::size_t>(dtype_size(dtype)));
  by_narrow_dtype(dtype, [&]<class T>() {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const T element = FromFloat<T>::call(static_cast<float>(bytes[i]) / 255);
      std::memcpy(result.data() + i * sizeof(T), &element, sizeof(T));
    }
  });
  return result;
}

std::string test_images(Isa isa, const Problem& p) {
  const auto image = stored_image(p.in, kImages * p.channels * kInPixels);
  const std::int64_t elements = kImages * p.channels * kOutPixels;
  const auto bytes = static_cast<std::size_t>(elements * dtype_size(p.out));
  std::vector<std::uint8_t> expected(bytes), actual(bytes);
  AugmentArgs args = {.warp = warp_of(p),
                      .in_dtype = p.in,
                      .out_dtype = p.out,
                      .in = image.data(),
                      .out = expected.data(),
                      .in_strides = strides(p.channels, kHeight, kWidth, p.channels_last),
                      .out_strides = strides(p.channels, kOutHeight, kOutWidth, !p.channels_last),
                      .fill = {1, 0, 1, 0},
                      .normalization = {.mean = {0.4, 0.5, 0.6, 0.1}, .std = {0.2, 0.3, 0.4, 1}}};
  run(args, Oracle{});
  for (const std::int64_t stream_bytes : {std::int64_t{0}, elements * 8}) {
    args.out = actual.data();
    run(args, ExecutionOptions{.isa = isa, .stream_bytes = stream_bytes});
    if (expected != actual) {
      return std::string("augment_images of ") + dtype_name(p.in) + " to " + dtype_name(p.out);
    }
  }
  return {};
}

std::string test_gradient(Isa isa, const Problem& p) {
  const auto gradient = stored_image(p.in, kImages * p.channels * kOutPixels);
  const auto bytes = static_cast<std::size_t>(kImages * p.channels * kInPixels * dtype_size(p.in));
  std::vector<std::uint8_t> expected(bytes), actual(bytes);
  AugmentGradientArgs args = {
      .warp = warp_of(p),
      .in_dtype = p.in,
      .out_dtype = p.in,
      .in = gradient.data(),
      .out = expected.data(),
      .in_strides = strides(p.channels, kOutHeight, kOutWidth, p.channels_last),
      .out_strides = strides(p.channels, kHeight, kWidth, p.channels_last),
      .normalization = {}};
  run(args, Oracle{});
  args.out = actual.data();
  run(args, ExecutionOptions{.isa = isa});
  return expected == actual ? "" : "the gradient of augment_images";
}

std::string test_masks(Isa isa, int item) {
  const Problem p = {DType::kUInt8,       DType::kUInt8,           2,
                     FillMode::kConstant, Interpolation::kNearest, false};
  const auto masks = stored_image(DType::kUInt8, kImages * 2 * kInPixels * item);
  const auto bytes = static_cast<std::size_t>(kImages * 2 * kOutPixels * item);
  std::vector<std::uint8_t> expected(bytes), actual(bytes);
  WarpMasksArgs args = {.warp = warp_of(p),
                        .item = item,
                        .in = masks.data(),
                        .out = expected.data(),
                        .in_strides = strides(2, kHeight, kWidth, false),
                        .out_strides = strides(2, kOutHeight, kOutWidth, false),
                        .fill = 3};
  run(args, Oracle{});
  args.out = actual.data();
  run(args, ExecutionOptions{.isa = isa});
  return expected == actual ? "" : "warp_masks of " + std::to_string(item) + " bytes";
}

}  // namespace

std::string self_test(Isa isa) {
  constexpr DType kIn[] = {DType::kUInt8, DType::kFloat32, DType::kUInt8, DType::kBFloat16,
                           DType::kFloat16};
  constexpr DType kOut[] = {DType::kFloat32, DType::kUInt8, DType::kBFloat16, DType::kFloat16};
  constexpr std::int64_t kChannels[] = {3, 1, 4};
  std::string problem;
  for (int i = 0; i < 40 && problem.empty(); ++i) {
    const Problem p = {kIn[i % 5],
                       kOut[i % 4],
                       kChannels[i % 3],
                       static_cast<FillMode>(i % 7),
                       i % 6 == 5 ? Interpolation::kNearest : Interpolation::kBilinear,
                       i % 2 == 1};
    problem = test_images(isa, p);
    if (problem.empty() && is_floating(p.in)) problem = test_gradient(isa, p);
  }
  for (const int item : {1, 2, 4, 8}) {
    if (problem.empty()) problem = test_masks(isa, item);
  }
  return problem;
}

}  // namespace strop::augment::cpu
