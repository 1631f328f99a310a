#include "core/self_test_samples.h"
#include "quantize/gradient_arguments.h"

namespace strop::quantize::cpu {
namespace {

constexpr std::int64_t kShape[2] = {9, 203};
constexpr std::int64_t kStride[2] = {203, 1};
constexpr std::int64_t kCount = kShape[0] * kShape[1];

// What the oracle says of a problem, or what the kernels say.
template <class T>
struct Results {
  std::vector<T> output = std::vector<T>(kCount);
  std::vector<std::uint8_t> mask = std::vector<std::uint8_t>(mask_bytes(kCount));
  std::vector<T> masked = std::vector<T>(kCount);
  std::vector<T> input = std::vector<T>(kCount);
  std::vector<float> scale = std::vector<float>(kCount);
  std::vector<float> zero = std::vector<float>(kCount);
};

template <class T>
class GradientTest {
 public:
  GradientTest(std::int64_t block_rows, std::int64_t block_columns, const char* rounding) {
    QuantizeRequest request;
    request.format = "int4";
    request.block_size = {block_rows, block_columns};
    request.rounding = rounding;
    spec_ = make_quantize_spec("strop self-test", request);
    for (std::size_t i = 0; i < scale_.size(); ++i) {
      scale_[i] = 0.3f + 0.01f * static_cast<float>(i % 50);
    }
  }

  std::string run(Isa isa) {
    Results<T> expected, actual;
    run_all(expected, Oracle{});
    run_all(actual, ExecutionOptions{.isa = isa});
    if (actual.mask != expected.mask) return "the mask of fake_quantize";
    if (!same_bits(actual.masked, expected.masked)) return "masked_gradient";
    if (!same_bits(actual.input, expected.input)) return "learned_gradient of input";
    if (!near(actual.scale, expected.scale)) return "learned_gradient of scale";
    if (!near(actual.zero, expected.zero)) return "learned_gradient of zero_point";
    return {};
  }

 private:
  template <class Where>
  void run_all(Results<T>& results, Where where) {
    quantize::run(forward_args(results), where);
    quantize::run(masked_args(results), where);
    quantize::run(learned_args(results), where);
  }

  LearnedGradientTensors tensors(Results<T>& results) {
    const TensorView input = view_of(input_.data(), dtype_of<T>, kShape, kStride);
    LearnedGradientTensors all;
    all.forward.input = input;
    all.forward.output = view_of(results.output.data(), dtype_of<T>, kShape, kStride);
    const FakeQuantizeArgs args = fake_quantize_args(spec_, all.forward, 7);
    grid_[0] = args.dim[0].blocks();
    grid_[1] = args.dim[1].blocks();
    grid_stride_[0] = grid_[1];
    grid_stride_[1] = 1;
    const auto parameter = [&](std::vector<float>& values) {
      return view_of(values.data(), DType::kFloat32, grid_, grid_stride_);
    };
    all.forward.scale = parameter(scale_);
    all.forward.zero_point = parameter(zero_);
    all.gradient = view_of(gradient_.data(), dtype_of<T>, kShape, kStride);
    all.scale_gradient = parameter(results.scale);
    all.zero_gradient = parameter(results.zero);
    return all;
  }

  FakeQuantizeArgs forward_args(Results<T>& results) {
    FakeQuantizeArgs args = fake_quantize_args(spec_, tensors(results).forward, 7);
    args.mask = results.mask.data();
    return args;
  }

  MaskedGradientArgs masked_args(Results<T>& results) {
    return {.item_bytes = sizeof(T),
            .count = kCount,
            .gradient = gradient_.data(),
            .mask = results.mask.data(),
            .output = results.masked.data()};
  }

  LearnedGradientArgs learned_args(Results<T>& results) {
    LearnedGradientTensors all = tensors(results);
    all.forward.output.data = results.input.data();
    return learned_gradient_args(spec_, all, 7, 0.5);
  }

  // Not the input once more.
  static std::vector<float> shifted_samples() {
    std::vector<float> values = sample_values(kCount + 5, true);
    values.erase(values.begin(), values.begin() + 5);
    return values;
  }

  static bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
  }

  // The oracle sums in double. A lane gone astray is off by more.
  static bool near(const std::vector<float>& a, const std::vector<float>& b) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (!(std::fabs(a[i] - b[i]) <= 1e-3f + 1e-5f * std::fabs(b[i]))) return false;
    }
    return true;
  }

  QuantizeSpec spec_;
  std::vector<T> input_ = stored<T>(sample_values(kCount, true));
  std::vector<T> gradient_ = stored<T>(shifted_samples());
  std::vector<float> scale_ = std::vector<float>(kCount);
  std::vector<float> zero_ = sample_values(kCount, true);
  std::int64_t grid_[2];
  std::int64_t grid_stride_[2];
};

template <class T>
std::string run_all(Isa isa) {
  constexpr std::int64_t kBlocks[][2] = {{1, -1}, {1, 32}, {-1, 1}, {2, 33}};
  for (const char* rounding : {"half_even", "stochastic"}) {
    for (const auto& block : kBlocks) {
      const std::string wrong = GradientTest<T>(block[0], block[1], rounding).run(isa);
      if (!wrong.empty()) return wrong + " " + dtype_name(dtype_of<T>) + " " + rounding;
    }
  }
  return {};
}

}  // namespace

std::string self_test_gradients(Isa isa) {
  std::string problem = run_all<float>(isa);
  if (problem.empty()) problem = run_all<BFloat16>(isa);
  if (problem.empty()) problem = run_all<Float16>(isa);
  return problem;
}

}  // namespace strop::quantize::cpu
