#include "cpu/quantize.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/argument_error.h"
#include "kernels/quantize_arguments.h"
#include "torch/tensor_arguments.h"

namespace strop {
namespace {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr const char* kFakeQuantize = "strop.fake_quantize";
constexpr const char* kFakeQuantizeInPlace = "strop.fake_quantize_";

// Seeds come as an int, or as an int64 tensor of one element: compiled code does not specialise on
// that, and a CUDA graph can change it.
std::optional<std::uint64_t> seed_value(const char* op, std::optional<std::int64_t> seed,
                                        const OptionalTensor& tensor) {
  if (!tensor) {
    if (!seed) return std::nullopt;
    return static_cast<std::uint64_t>(*seed);
  }
  const TensorView view = view_of(*tensor);
  if (view.dtype != DType::kInt64) {
    throw_type_error(op, ": seed has dtype ", dtype_name(view.dtype),
                     "; an int64 tensor is needed");
  }
  if (view.numel() != 1) {
    throw_value_error(op, ": seed has shape ", shape_text(view.shape, view.dims),
                      "; one element is needed");
  }
  return static_cast<std::uint64_t>(*static_cast<const std::int64_t*>(view.data));
}

// One call, taken off the stack that torch hands to a boxed kernel. Reading the stack in order
// keeps a dozen arguments out of every signature; the order is the schema's.
struct Call {
  const char* op;
  Tensor input;
  OptionalTensor scale;
  OptionalTensor zero_point;
  std::optional<std::uint64_t> seed;
};

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

constexpr const char* kPublicArguments =
    "Tensor? scale, Tensor? zero_point, str format, int[] block_size, str rounding, bool "
    "symmetric, "
    "SymInt? seed=None, int? quant_min=None, int? quant_max=None, float? eps=None, "
    "Tensor? seed_tensor=None";
constexpr const char* kPackedArguments =
    "Tensor? scale, Tensor? zero_point, int spec, int? seed=None";

// The arguments of the public ops; an empty block_size is the whole tensor.
Call take_public(const char* op, Stack& stack, QuantizeRequest& request) {
  Call call{
      op, stack.take<Tensor>(), stack.take<OptionalTensor>(), stack.take<OptionalTensor>(), {}};
  request.format = stack.take<std::string>();
  request.block_size = stack.take<std::vector<std::int64_t>>();
  request.whole = request.block_size.empty();
  request.rounding = stack.take<std::string>();
  request.symmetric = stack.take<bool>();
  const auto seed = stack.take<std::optional<std::int64_t>>();
  request.quant_min = stack.take<std::optional<std::int64_t>>();
  request.quant_max = stack.take<std::optional<std::int64_t>>();
  request.eps = stack.take<std::optional<double>>();
  call.seed = seed_value(op, seed, stack.take<OptionalTensor>());
  return call;
}

// The arguments of the private eager ops, whose specification is an interned integer.
Call take_packed(const char* op, Stack& stack, std::int64_t& spec) {
  Call call{
      op, stack.take<Tensor>(), stack.take<OptionalTensor>(), stack.take<OptionalTensor>(), {}};
  spec = stack.take<std::int64_t>();
  call.seed = seed_value(op, stack.take<std::optional<std::int64_t>>(), std::nullopt);
  return call;
}

FakeQuantizeTensors checked(const Call& call, const QuantizeSpec& spec, const OptionalTensor& out) {
  const FakeQuantizeTensors tensors = {.input = view_of(call.input),
                                       .scale = view_of(call.scale),
                                       .zero_point = view_of(call.zero_point),
                                       .output = view_of(out)};
  check_fake_quantize(call.op, spec, tensors, call.seed.has_value());
  return tensors;
}

void run(const Call& call, const QuantizeSpec& spec, const FakeQuantizeTensors& tensors) {
  cpu::fake_quantize(fake_quantize_args(spec, tensors, call.seed.value_or(0)), torch_threads());
}

Tensor to_new(const Call& call, const QuantizeSpec& spec) {
  FakeQuantizeTensors tensors = checked(call, spec, std::nullopt);
  Tensor out = empty_like(call.input, tensors.input);
  tensors.output = view_of(out);
  run(call, spec, tensors);
  return out;
}

void to_given(const Call& call, const QuantizeSpec& spec, const Tensor& out) {
  run(call, spec, checked(call, spec, out));
}

// Boxed kernels: (stack, arguments, results).

void fake_quantize(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  QuantizeRequest request;
  const Call call = take_public(kFakeQuantize, stack, request);
  values[0] = torch::stable::detail::from(to_new(call, make_quantize_spec(call.op, request)));
}

void fake_quantize_out(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  QuantizeRequest request;
  const Call call = take_public(kFakeQuantize, stack, request);
  const Tensor out = stack.take<Tensor>();
  to_given(call, make_quantize_spec(call.op, request), out);
}

void fake_quantize_inplace(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  QuantizeRequest request;
  const Call call = take_public(kFakeQuantizeInPlace, stack, request);
  to_given(call, make_quantize_spec(call.op, request), call.input);
}

void packed(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  std::int64_t spec = 0;
  const Call call = take_packed(kFakeQuantize, stack, spec);
  values[0] = torch::stable::detail::from(to_new(call, interned_quantize_spec(call.op, spec)));
}

void packed_out(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  std::int64_t spec = 0;
  const Call call = take_packed(kFakeQuantize, stack, spec);
  const Tensor out = stack.take<Tensor>();
  to_given(call, interned_quantize_spec(call.op, spec), out);
}

void packed_inplace(StableIValue* values, std::uint64_t, std::uint64_t) {
  Stack stack(values);
  std::int64_t spec = 0;
  const Call call = take_packed(kFakeQuantizeInPlace, stack, spec);
  to_given(call, interned_quantize_spec(call.op, spec), call.input);
}

struct Definition {
  const char* name;
  const char* arguments;
  void (*cpu)(StableIValue*, std::uint64_t, std::uint64_t);
};

std::string schema(const Definition& op) {
  const std::string name = op.name;
  const bool in_place = name.back() == '_';
  const bool out = name.size() > 4 && name.compare(name.size() - 4, 4, ".out") == 0;
  return name + (in_place ? "(Tensor(a!) x, " : "(Tensor x, ") + op.arguments +
         (out ? ", *, Tensor(a!) out" : "") + (in_place || out ? ") -> ()" : ") -> Tensor");
}

constexpr Definition kOps[] = {
    {"fake_quantize", kPublicArguments, fake_quantize},
    {"fake_quantize.out", kPublicArguments, fake_quantize_out},
    {"fake_quantize_", kPublicArguments, fake_quantize_inplace},
    {"_fake_quantize", kPackedArguments, packed},
    {"_fake_quantize.out", kPackedArguments, packed_out},
    {"_fake_quantize_", kPackedArguments, packed_inplace},
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) {
  for (const Definition& op : kOps) m.def(schema(op).c_str());
}

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) {
  for (const Definition& op : kOps) m.impl(op.name, op.cpu);
}

}  // namespace strop
