#pragma once

#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <vector>

#include "core/torch/call.h"
#include "kernels/argument_error.h"
#include "kernels/quantize_gradient_arguments.h"
#include "torch/tensor_arguments.h"

namespace strop {

// The quantize ops for one kind of device. A Backend is made for a tensor, and makes its device the
// current one while it lives; it has the kernels:
//   void fake_quantize(const FakeQuantizeArgs&)
//   void masked_gradient(const MaskedGradientArgs&)
//   void learned_gradient(const LearnedGradientArgs&)
//   void clear(void* bytes, std::size_t count)

inline constexpr const char* kFakeQuantize = "strop.fake_quantize";
inline constexpr const char* kFakeQuantizeInPlace = "strop.fake_quantize_";

// Reads the stack that torch hands to a boxed kernel, in the order of the schema, which keeps a
// dozen arguments out of every signature.
class Stack {
 public:
  explicit Stack(StableIValue* values) : next_(values) {}

  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }

 private:
  StableIValue* next_;
};

// The schemas' arguments after the tensor that an op begins with; an empty block_size is the whole
// tensor. The private ops for eager calls have an interned specification instead of the options.
inline constexpr const char* kSpelledArguments =
    "Tensor? scale, Tensor? zero_point, str format, int[] block_size, str rounding, bool "
    "symmetric, SymInt? seed=None, int? quant_min=None, int? quant_max=None, float? eps=None, "
    "Tensor? seed_tensor=None";
inline constexpr const char* kGradFactor = ", float grad_factor=1.0";
inline constexpr const char* kPackedArguments =
    "Tensor? scale, Tensor? zero_point, int spec, int? seed=None";

// One call's arguments.
struct QuantizeCall {
  const char* op;
  Tensor input;
  OptionalTensor scale;
  OptionalTensor zero_point;
  std::optional<QuantizeSpec> spelled;
  const QuantizeSpec* interned = nullptr;
  std::optional<std::uint64_t> seed;
  OptionalTensor seed_tensor;
  double grad_factor = 1.0;

  const QuantizeSpec& spec() const { return interned != nullptr ? *interned : *spelled; }
};

// Takes an int seed; one in a tensor stays there, so that compiled code does not specialise on it
// and a CUDA graph can change it.
inline void check_seed_tensor(QuantizeCall& call) {
  const TensorView view = view_of(*call.seed_tensor);
  if (view.dtype != DType::kInt64) {
    throw_type_error(call.op, ": seed has dtype ", dtype_name(view.dtype),
                     "; an int64 tensor is needed");
  }
  if (view.numel() != 1) {
    throw_value_error(call.op, ": seed has shape ", shape_text(view.shape, view.dims),
                      "; one element is needed");
  }
  call.seed = 0;
  if (!call.seed_tensor->is_cpu()) return;
  call.seed = static_cast<std::uint64_t>(*static_cast<const std::int64_t*>(view.data));
  call.seed_tensor.reset();
}

inline QuantizeCall take_tensors(const char* op, Stack& stack) {
  QuantizeCall call;
  call.op = op;
  call.input = stack.take<Tensor>();
  call.scale = stack.take<OptionalTensor>();
  call.zero_point = stack.take<OptionalTensor>();
  return call;
}

inline QuantizeCall take_spelled_forward(const char* op, Stack& stack) {
  QuantizeCall call = take_tensors(op, stack);
  QuantizeRequest request;
  request.format = stack.take<std::string>();
  request.block_size = stack.take<std::vector<std::int64_t>>();
  request.whole = request.block_size.empty();
  request.rounding = stack.take<std::string>();
  request.symmetric = stack.take<bool>();
  const auto seed = stack.take<std::optional<std::int64_t>>();
  if (seed) call.seed = static_cast<std::uint64_t>(*seed);
  request.quant_min = stack.take<std::optional<std::int64_t>>();
  request.quant_max = stack.take<std::optional<std::int64_t>>();
  request.eps = stack.take<std::optional<double>>();
  call.seed_tensor = stack.take<OptionalTensor>();
  if (call.seed_tensor) check_seed_tensor(call);
  call.spelled = make_quantize_spec(op, request);
  return call;
}

inline QuantizeCall take_spelled(const char* op, Stack& stack) {
  QuantizeCall call = take_spelled_forward(op, stack);
  call.grad_factor = stack.take<double>();
  return call;
}

inline QuantizeCall take_packed(const char* op, Stack& stack) {
  QuantizeCall call = take_tensors(op, stack);
  call.interned = &interned_quantize_spec(op, stack.take<std::int64_t>());
  const auto seed = stack.take<std::optional<std::int64_t>>();
  if (seed) call.seed = static_cast<std::uint64_t>(*seed);
  return call;
}

using TakeCall = QuantizeCall (*)(const char*, Stack&);

template <class Backend>
struct QuantizeOps {
  static FakeQuantizeTensors checked(const QuantizeCall& call, const OptionalTensor& out) {
    const FakeQuantizeTensors tensors = {.input = view_of(call.input),
                                         .scale = view_of(call.scale),
                                         .zero_point = view_of(call.zero_point),
                                         .output = view_of(out)};
    check_fake_quantize(call.op, call.spec(), tensors, call.seed.has_value());
    if (call.seed_tensor && call.seed_tensor->device() != call.input.device()) {
      throw_value_error(call.op, ": seed is on another device than input");
    }
    return tensors;
  }

  static const std::uint64_t* seed_at(const QuantizeCall& call) {
    if (!call.seed_tensor) return nullptr;
    return static_cast<const std::uint64_t*>(view_of(*call.seed_tensor).data);
  }

  static void run(Backend& backend, const QuantizeCall& call, const FakeQuantizeTensors& tensors,
                  const TensorView& mask) {
    FakeQuantizeArgs args = fake_quantize_args(call.spec(), tensors, call.seed.value_or(0));
    args.mask = static_cast<std::uint8_t*>(mask.data);
    args.seed_at = seed_at(call);
    backend.fake_quantize(args);
  }

  // Boxed kernels: (stack, arguments, results).

  // The output; with a mask, that as well.
  template <TakeCall kTake, bool kMask = false>
  static void to_new(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const QuantizeCall call = kTake(kFakeQuantize, stack);
    FakeQuantizeTensors tensors = checked(call, std::nullopt);
    Backend backend(call.input);
    Tensor out = empty_like(call.input, tensors.input);
    tensors.output = view_of(out);
    if constexpr (kMask) {
      Tensor mask = empty_bytes(mask_bytes(tensors.input.numel()), call.input);
      check_fake_quantize_mask(call.op, tensors, view_of(mask));
      backend.clear(mask.data_ptr(), static_cast<std::size_t>(mask.numel()));
      run(backend, call, tensors, view_of(mask));
      values[1] = torch::stable::detail::from(std::move(mask));
    } else {
      run(backend, call, tensors, {});
    }
    values[0] = torch::stable::detail::from(std::move(out));
  }

  template <TakeCall kTake>
  static void to_given(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const QuantizeCall call = kTake(kFakeQuantize, stack);
    const FakeQuantizeTensors tensors = checked(call, stack.take<Tensor>());
    Backend backend(call.input);
    run(backend, call, tensors, {});
  }

  template <TakeCall kTake>
  static void in_place(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const QuantizeCall call = kTake(kFakeQuantizeInPlace, stack);
    const FakeQuantizeTensors tensors = checked(call, call.input);
    Backend backend(call.input);
    run(backend, call, tensors, {});
  }

  static void masked_gradient(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor gradient = stack.take<Tensor>();
    const Tensor mask = stack.take<Tensor>();
    MaskedGradientTensors tensors = {
        .gradient = view_of(gradient), .mask = view_of(mask), .output = {}};
    check_masked_gradient("strop._masked_gradient", tensors);
    Backend backend(gradient);
    Tensor out = empty_like(gradient, tensors.gradient);
    tensors.output = view_of(out);
    backend.masked_gradient(masked_gradient_args(tensors));
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void masked_gradient_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor gradient = stack.take<Tensor>();
    const Tensor mask = stack.take<Tensor>();
    const Tensor out = stack.take<Tensor>();
    const MaskedGradientTensors tensors = {
        .gradient = view_of(gradient), .mask = view_of(mask), .output = view_of(out)};
    check_masked_gradient("strop._masked_gradient", tensors);
    Backend backend(gradient);
    backend.masked_gradient(masked_gradient_args(tensors));
  }

  // (of input, of scale, of zero_point), the last empty unless that is floating. The gradient comes
  // before the arguments of fake_quantize.
  template <TakeCall kTake>
  static void learned_gradient(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor gradient = stack.take<Tensor>();
    QuantizeCall call = kTake("strop._learned_gradient", stack);
    if (call.interned != nullptr) call.grad_factor = stack.take<double>();
    LearnedGradientTensors tensors = {.forward = checked(call, std::nullopt),
                                      .gradient = view_of(gradient),
                                      .scale_gradient = {},
                                      .zero_gradient = {}};
    check_learned_gradient(call.op, call.spec(), tensors, call.seed.has_value());
    Backend backend(call.input);
    Tensor of_input = empty_like(call.input, tensors.forward.input);
    tensors.forward.output = view_of(of_input);
    Tensor of_scale = empty_like(*call.scale, tensors.forward.scale);
    tensors.scale_gradient = view_of(of_scale);
    const TensorView& zero = tensors.forward.zero_point;
    const bool learns_zero = zero.present && is_floating(zero.dtype);
    Tensor of_zero = learns_zero ? empty_like(*call.zero_point, zero) : empty_bytes(0, call.input);
    if (learns_zero) tensors.zero_gradient = view_of(of_zero);
    LearnedGradientArgs args =
        learned_gradient_args(call.spec(), tensors, call.seed.value_or(0), call.grad_factor);
    args.forward.seed_at = seed_at(call);
    backend.learned_gradient(args);
    values[0] = torch::stable::detail::from(std::move(of_input));
    values[1] = torch::stable::detail::from(std::move(of_scale));
    values[2] = torch::stable::detail::from(std::move(of_zero));
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("fake_quantize", to_new<take_spelled>);
    m.impl("fake_quantize.out", to_given<take_spelled>);
    m.impl("fake_quantize_", in_place<take_spelled>);
    m.impl("_fake_quantize", to_new<take_packed>);
    m.impl("_fake_quantize.out", to_given<take_packed>);
    m.impl("_fake_quantize_", in_place<take_packed>);
    m.impl("_fake_quantize_with_mask", to_new<take_spelled, true>);
    m.impl("_fake_quantize_with_mask.packed", to_new<take_packed, true>);
    m.impl("_masked_gradient", masked_gradient);
    m.impl("_masked_gradient.out", masked_gradient_out);
    m.impl("_learned_gradient", learned_gradient<take_spelled>);
    m.impl("_learned_gradient.packed", learned_gradient<take_packed>);
  }
};

}  // namespace strop
