#include "core/self_test_samples.h"
#include "prune/arguments.h"
#include "prune/kernels.h"

namespace strop::prune::cpu {
namespace {

constexpr std::int64_t kShape[2] = {3, 1035};
constexpr std::int64_t kStride[2] = {1035, 1};
constexpr std::int64_t kCount = kShape[0] * kShape[1];

// Values of which many are equal, so that cuts fall among ties.
std::vector<float> coarse_values() {
  std::vector<float> values = sample_values(kCount, false);
  for (std::size_t i = 0; i < values.size(); i += 3) values[i] = std::round(values[i]);
  return values;
}

template <class T>
std::string test_masks(Isa isa) {
  PruneRequest request;
  std::vector<PruneRequest> requests;
  for (const double sparsity : {0.0, 0.1, 0.5, 0.93, 1.0}) {
    request.sparsity = sparsity;
    requests.push_back(request);
  }
  request.per = "row";
  requests.push_back(request);
  request.sparsity = 0.7;
  requests.push_back(request);
  for (const auto& block : {std::vector<std::int64_t>{2, 33}, {4, 1}}) {
    requests.push_back({.sparsity = 0.5, .pattern = "block", .block_size = block, .norm = "l2"});
  }
  for (const char* pattern : {"1:2", "2:4", "5:8", "2:7"}) requests.push_back({.pattern = pattern});
  requests.push_back({.threshold = 1.0});
  std::vector<T> weight = stored<T>(coarse_values());
  const TensorView view = view_of(weight.data(), dtype_of<T>, kShape, kStride);
  std::vector<std::uint8_t> expected(weight.size()), actual(weight.size());
  for (const PruneRequest& each : requests) {
    const PruneRule rule = make_prune_rule("strop self-test", each);
    run(PruneArgs{rule, {prune_tensor(view, expected.data())}}, Oracle{});
    run(PruneArgs{rule, {prune_tensor(view, actual.data())}}, {.isa = isa});
    if (expected != actual) return "prune_mask " + each.pattern;
  }
  return {};
}

// What a large selection begins with.
template <class T>
std::string test_bracket(Isa isa) {
  const std::vector<T> weight = stored<T>(coarse_values());
  const KeyBracket bracket = {magnitude_key(0.5f), magnitude_key(1.0f)};
  std::vector<std::uint32_t> expected, actual(weight.size());
  std::int64_t below = 0;
  for (const T value : weight) {
    const std::uint32_t key = magnitude_key(to_float(value));
    below += key < bracket.low;
    if (key >= bracket.low && key <= bracket.high) expected.push_back(key);
  }
  const BracketCount found =
      kernels(isa).split_by_bracket({dtype_of<T>, weight.data(), kCount}, bracket, actual.data());
  actual.resize(static_cast<std::size_t>(found.inside));
  return found.below == below && actual == expected ? "" : "split_by_bracket";
}

// In rows, with an amount for all, for each row and for each element.
template <class T>
std::string test_soft_threshold(Isa isa) {
  std::vector<T> weight = stored<T>(sample_values(kCount, false));
  std::vector<T> gradient = stored<T>(coarse_values());
  std::vector<T> expected(weight.size()), actual(weight.size());
  std::vector<float> amount = sample_values(kCount, true);
  const std::int64_t strides[][2] = {{0, 0}, {1, 0}, {1035, 1}};
  for (const auto& stride : strides) {
    SoftThresholdTensors tensors = {
        .weight = view_of(weight.data(), dtype_of<T>, kShape, kStride),
        .amount = view_of(amount.data(), DType::kFloat32, kShape, stride),
        .output = view_of(expected.data(), dtype_of<T>, kShape, kStride),
        .gradient = view_of(gradient.data(), dtype_of<T>, kShape, kStride)};
    const auto agrees = [&] {
      for (std::size_t i = 0; i < weight.size(); ++i) {
        if (!agree(expected[i], actual[i])) return false;
      }
      return true;
    };
    const SoftThresholdArgs wanted = soft_threshold_args(tensors);
    tensors.output.data = actual.data();
    const SoftThresholdArgs args = soft_threshold_args(tensors);
    run(wanted, Oracle{});
    run(args, {.isa = isa});
    if (!agrees()) return "soft_threshold";
    run(SoftThresholdGradientArgs{wanted}, Oracle{});
    run(SoftThresholdGradientArgs{args}, {.isa = isa});
    if (!agrees()) return "the gradient of soft_threshold";
  }
  return {};
}

std::string test_bits(Isa isa) {
  std::vector<std::uint8_t> mask(kCount);
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i * i % 7 < 3 ? i % 5 : 0;
  MaskRows rows = mask_rows(kShape, 2, mask.data(), nullptr);
  const auto bytes = static_cast<std::size_t>(rows.rows * rows.bytes());
  std::vector<std::uint8_t> expected(bytes), actual(bytes);
  rows.to = expected.data();
  run(PackMaskArgs{rows}, Oracle{});
  rows.to = actual.data();
  run(PackMaskArgs{rows}, {.isa = isa});
  if (expected != actual) return "pack_mask";
  std::vector<std::uint8_t> restored(mask.size());
  run(UnpackMaskArgs{mask_rows(kShape, 2, actual.data(), restored.data())}, {.isa = isa});
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (restored[i] != (mask[i] != 0)) return "unpack_mask";
  }
  return {};
}

template <class T>
std::string run_all(Isa isa) {
  std::string problem = test_masks<T>(isa);
  if (problem.empty()) problem = test_bracket<T>(isa);
  if (problem.empty()) problem = test_soft_threshold<T>(isa);
  return problem.empty() ? problem : problem + " " + dtype_name(dtype_of<T>);
}

}  // namespace

std::string self_test(Isa isa) {
  std::string problem = run_all<float>(isa);
  if (problem.empty()) problem = run_all<BFloat16>(isa);
  if (problem.empty()) problem = run_all<Float16>(isa);
  if (problem.empty()) problem = test_bits(isa);
  return problem;
}

}  // namespace strop::prune::cpu
