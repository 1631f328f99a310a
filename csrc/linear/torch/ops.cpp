#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "core/kernel_sets.h"
#include "core/torch/op_table.h"
#include "linear/bitmap_ops.h"
#include "linear/packed_codes_ops.h"
#include "linear/torch/dense_linear.h"

namespace strop::linear {
namespace {

// The op that graphs contain has a weight in all the forms that were prepared, and the method that
// was chosen for each class of rows.

// As a plan numbers them. kPrepacked is for whoever calls oneDNN; here it does not come.
enum class Method : std::int64_t {
  kMask = 1,
  kQuads,
  kPairs,
  kDense,
  kBitmap,
  kUnpack,
  kPrepacked,
  kCodes,
  kFirstByAvx2,
  kPanels = kFirstByAvx2 + 4
};

// The numbers from kFirstByAvx2 on are these by the kernels of AVX2, which the set in force
// extends.
constexpr std::array<Method, 4> kByAvx2 = {Method::kMask, Method::kQuads, Method::kPairs,
                                           Method::kCodes};
constexpr auto kFirstByAvx2 = static_cast<std::int64_t>(Method::kFirstByAvx2);
constexpr auto kPastAvx2 = kFirstByAvx2 + static_cast<std::int64_t>(kByAvx2.size());
static_assert(kPastAvx2 == static_cast<std::int64_t>(Method::kPanels));

struct Way {
  Method method;
  Isa isa = Isa::kActive;
};

// Numbers of rows with a choice of their own end here; the last class has no end.
constexpr std::array<std::int64_t, 7> kRowClasses = {1, 4, 8, 16, 32, 128, 1 << 20};

// What it is given. `made_of`, int64 on the CPU, has the versions of bits and values that the other
// forms were made of: a compiled graph holds tensors that nobody makes anew.
struct PlannedCall {
  Tensor x;
  Tensor bits;
  Tensor values;
  OptionalTensor quads;
  OptionalTensor pairs;
  OptionalTensor panels;
  OptionalTensor dense;
  OptionalTensor back_quads;  // for a gradient
  OptionalTensor back_pairs;
  OptionalTensor starts;
  std::vector<std::int64_t> plan;
  OptionalTensor bias;
  std::string activation;
  OptionalTensor made_of;
};

// A copy, as of a frozen graph, begins to count anew: a smaller version is no write.
void check_unwritten(const char* name, const Tensor& tensor, std::int64_t version) {
  if (version_of(tensor) <= version) return;
  throw_value_error(kPackedLinear, ": ", name,
                    " was written to in place, which compiled code cannot follow; call the layer, "
                    "or the op, once outside of compiled code");
}

void check_planned(const PlannedCall& given) {
  if (given.made_of) {
    const TensorView versions = view_of(*given.made_of);
    if (versions.dtype != DType::kInt64 || versions.numel() != 2 || !given.made_of->is_cpu() ||
        !is_contiguous(versions)) {
      throw_value_error(kPackedLinear, ": made_of is not two int64 numbers on the CPU");
    }
    const auto* at = static_cast<const std::int64_t*>(versions.data);
    check_unwritten("bits", given.bits, at[0]);
    check_unwritten("values", given.values, at[1]);
  }
}

// What a plan says of as many rows.
Way way_of(const std::vector<std::int64_t>& plan, const Tensor& x) {
  if (plan.size() != kRowClasses.size() || x.dim() == 0) {
    throw_value_error(kPackedLinear, ": the plan has ", plan.size(), " entries, input ", x.dim(),
                      " dimensions; the plan of a PackedWeight and one or more are needed");
  }
  const std::int64_t rows = rows_of(view_of(x));
  std::size_t number = 0;
  while (number + 1 < kRowClasses.size() && rows > kRowClasses[number]) ++number;
  const std::int64_t method = plan[number];
  if (method < kFirstByAvx2 || method >= kPastAvx2) return {static_cast<Method>(method)};
  return {kByAvx2[static_cast<std::size_t>(method - kFirstByAvx2)], isa_within_active("avx2")};
}

// The form that a method reads; nullptr where it was not prepared.
const Tensor* form_of(const PlannedCall& given, Method method) {
  const auto prepared = [](const OptionalTensor& form) { return form ? &*form : nullptr; };
  switch (method) {
    case Method::kQuads:
      return prepared(given.quads);
    case Method::kPairs:
      return prepared(given.pairs);
    case Method::kPanels:
      return prepared(given.panels);
    case Method::kDense:
      return prepared(given.dense);
    case Method::kMask:
    case Method::kBitmap:
    case Method::kUnpack:
      return prepared(given.starts);
    default:
      return nullptr;
  }
}

// As they are for few rows; else the weight is unpacked, and torch multiplies.
template <class Call>
Tensor multiply_by_bits(Call& call, const LinearInputs<Call>& in, const Bitmap<Call>& weight,
                        const OptionalTensor& out = {}) {
  const TensorView x = view_of(in.x);
  const bool exact = widens(view_of(weight.values).dtype, x.dtype);
  if (exact && rows_of(x) <= kMaxBitmapRows) return multiply_by_bitmap(call, in, weight, out);
  const BitmapMatrix matrix = checked_product(in, weight, out);
  // Its memory is the allocator's again after the product.
  const Tensor dense = unpacked(call, weight, matrix.columns, exact ? x.dtype : DType::kFloat32);
  const Tensor y = dense_linear(in.x, dense, in.bias, in.activation);
  if (!out) return y;
  Tensor to = *out;
  torch::stable::copy_(to, y);
  return to;
}

template <class Call, bool kCpu>
void packed_linear_by_bits(Call& call) {
  auto x = call.tensor("input");
  auto bits = call.tensor("bits"), values = call.tensor("values"), starts = call.tensor("starts");
  auto in = take_linear_inputs(call, std::move(x), true);
  auto out = call.out(in.x);
  Bitmap<Call> weight = {std::move(bits), std::move(values), std::move(starts), kCpu};
  if constexpr (kCpu) {
    call.give(multiply_by_bitmap(call, std::move(in), std::move(weight), std::move(out)));
  } else {
    call.give(multiply_by_bits<Call>(call, in, weight, out));
  }
}

// Whether a method is of a CPU, or of a GPU, and not torch's.
bool is_packed(Method method, bool cpu) {
  switch (method) {
    case Method::kMask:
    case Method::kQuads:
    case Method::kPairs:
    case Method::kPanels:
      return cpu;
    case Method::kBitmap:
    case Method::kUnpack:
      return !cpu;
    default:
      return false;
  }
}

template <class Call, bool kCpu>
void packed_linear_masked(Call& call) {
  const PlannedCall given = {.x = call.tensor("input"),
                             .bits = call.tensor("bits"),
                             .values = call.tensor("values"),
                             .quads = call.optional_tensor("quads"),
                             .pairs = call.optional_tensor("pairs"),
                             .panels = call.optional_tensor("panels"),
                             .dense = call.optional_tensor("dense"),
                             .back_quads = call.optional_tensor("back_quads"),
                             .back_pairs = call.optional_tensor("back_pairs"),
                             .starts = call.optional_tensor("starts"),
                             .plan = call.template option<std::vector<std::int64_t>>("plan"),
                             .bias = call.optional_tensor("bias"),
                             .activation = call.template option<std::string>("activation"),
                             .made_of = call.optional_tensor("made_of")};
  LinearInputs<Call> in = {given.x, given.bias, activation_named(kPackedLinear, given.activation)};
  check_planned(given);
  const auto [method, isa] = way_of(given.plan, given.x);
  in.isa = isa;
  const Tensor* const form = form_of(given, method);
  if (form == nullptr || (method != Method::kDense && !is_packed(method, kCpu))) {
    throw_value_error(kPackedLinear, ": the plan wants what the weight has not prepared");
  }
  if (method == Method::kDense) return call.give(dense_linear(in.x, *form, in.bias, in.activation));
  const Bitmap<Call> bitmap = {given.bits, given.values, *form, kCpu};
  if constexpr (kCpu) {
    call.give(method == Method::kMask ? multiply_by_bitmap(call, in, bitmap)
                                      : multiply_by_layout(call, in, *form));
  } else {
    call.give(multiply_by_bits<Call>(call, in, bitmap));
  }
}

// By the dense weight, whose memory is the allocator's again after torch's product.
template <class Call>
Tensor multiply_dense(const PackedCodesCall<Call>& of, const Tensor& dense) {
  return dense_linear(of.in.x, dense, of.in.bias, of.in.activation);
}

// Of a weight in codes on a GPU. Many rows of a float x go by the dense weight.
template <class Call>
void packed_linear_by_codes(Call& call) {
  auto x = call.tensor("input");
  auto layout = call.tensor("layout");                      // beside a mask the rows' starts
  call.template option<std::vector<std::int64_t>>("plan");  // which a CPU reads
  const PackedCodesCall<Call> of = take_packed_codes<Call>(call, std::move(x), std::move(layout));
  auto out = call.out(of.in.x);
  check_out<Call>(of, out);
  const std::int64_t few = of.bits ? kMaxBitmapRows : kMaxCodesRows;
  if (of.activations != Activations::kExact || of.rows() <= few) {
    return call.give(multiply_codes(call, of, std::move(out), byte_product));
  }
  const DType dtype = view_of(of.in.x).dtype;
  const Tensor dense = of.bits ? unpacked_kept(call, of, dtype) : restored(call, of, dtype);
  const Tensor y = multiply_dense<Call>(of, dense);
  if (!out) return call.give(y);
  torch::stable::copy_(*out, y);
}

// Of one on a CPU by its layout, beside which codes and scales are for a gradient alone.
template <class Call>
void packed_linear_by_codes_layout(Call& call, Tensor x, const Tensor& layout,
                                   const std::vector<std::int64_t>& plan) {
  call.tensor("codes");
  call.tensor("scale");
  call.optional_tensor("zero_point");
  call.optional_tensor("tensor_scale");
  call.template option<std::string>("format");
  call.sizes("block_size");
  const std::vector<std::int64_t> shape = call.sizes("shape");
  call.template option<std::string>("activations");
  call.optional_tensor("bits");
  LinearInputs<Call> in = take_linear_inputs(call, std::move(x));
  if (shape.size() != 2) throw_value_error(kPackedLinear, ": shape is not that of a matrix");
  in.isa = way_of(plan, in.x).isa;
  call.give(multiply_by_layout(call, std::move(in), layout, shape[0]));
}

// Of one on a CPU: by its layout, or where the plan says so by the dense weight.
template <class Call>
void packed_linear_codes(Call& call) {
  auto x = call.tensor("input");
  const auto layout = call.tensor("layout");
  const auto plan = call.template option<std::vector<std::int64_t>>("plan");
  const auto unpack = static_cast<std::int64_t>(Method::kUnpack);
  if (std::find(plan.begin(), plan.end(), unpack) == plan.end()) {
    return packed_linear_by_codes_layout(call, std::move(x), layout, plan);
  }
  const PackedCodesCall<Call> of = take_packed_codes(call, std::move(x));
  const auto [method, isa] = way_of(plan, of.in.x);
  if (method == Method::kUnpack && of.activations == Activations::kExact) {
    const DType dtype = view_of(of.in.x).dtype;  // float16 has less range than weights may have
    const Tensor dense = restored(call, of, dtype == DType::kFloat16 ? DType::kFloat32 : dtype);
    return call.give(multiply_dense<Call>(of, dense));
  }
  LinearInputs<Call> in = of.in;
  in.isa = isa;
  call.give(multiply_by_layout(call, std::move(in), layout, of.weight.rows()));
}

#define STROP_BY_LAYOUT \
  "(Tensor input, Tensor layout, SymInt outputs, Tensor? bias, str activation, str isa=''"
#define STROP_BY_BITS                                                                        \
  "(Tensor input, Tensor bits, Tensor values, Tensor starts, Tensor? bias, str activation, " \
  "str isa=''"

#define STROP_BY_CODES                                                                          \
  "(Tensor input, Tensor layout, int[] plan, Tensor codes, Tensor scale, Tensor? zero_point, "  \
  "Tensor? "                                                                                    \
  "tensor_scale, str format, int[] block_size, SymInt[] shape, str activations, Tensor? bits, " \
  "Tensor? bias, "                                                                              \
  "str activation"

template <class B>
constexpr OpRow kOps[] = {
    {"packed_linear.masked(Tensor input, Tensor bits, Tensor values, Tensor? quads, "
     "Tensor? pairs, Tensor? panels, Tensor? dense, Tensor? back_quads, Tensor? back_pairs, "
     "Tensor? starts, "
     "int[] plan, Tensor? bias, str activation, Tensor? made_of=None) -> Tensor",
     boxed<packed_linear_masked<New<B>, STROP_CPU_OR_GPU(true, false)>>},
    {"_packed_linear" STROP_BY_LAYOUT ") -> Tensor",
     STROP_CPU_OR_GPU(boxed<packed_linear_by_layout<New<B>>>, nullptr)},
    {"_packed_linear.out" STROP_BY_LAYOUT ", *, Tensor(a!) out) -> ()",
     STROP_CPU_OR_GPU(boxed<packed_linear_by_layout<Given<B>>>, nullptr)},
    {"_packed_linear_bits" STROP_BY_BITS ") -> Tensor",
     boxed<packed_linear_by_bits<New<B>, STROP_CPU_OR_GPU(true, false)>>},
    {"_packed_linear_bits.out" STROP_BY_BITS ", *, Tensor(a!) out) -> ()",
     boxed<packed_linear_by_bits<Given<B>, STROP_CPU_OR_GPU(true, false)>>},
    {"_unpack_by_starts(Tensor bits, Tensor values, Tensor starts, SymInt columns) -> Tensor",
     STROP_CPU_OR_GPU(nullptr, boxed<unpack_by_starts<New<B>>>)},
    {"_packed_transposed(Tensor gradient, Tensor quads, Tensor pairs, SymInt columns) -> Tensor",
     STROP_CPU_OR_GPU(boxed<packed_transposed<New<B>>>, nullptr)},
    {"pack_masked(Tensor weight, Tensor? mask) -> (Tensor, Tensor)", boxed<pack_masked<New<B>>>},
    {"unpack_masked(Tensor bits, Tensor values, SymInt columns) -> Tensor",
     STROP_CPU_OR_GPU(boxed<unpack_masked<New<B>>>, boxed<unpack_bitmap<New<B>>>)},
    {"packed_linear.codes" STROP_BY_CODES ") -> Tensor",
     STROP_CPU_OR_GPU(boxed<packed_linear_codes<New<B>>>, boxed<packed_linear_by_codes<New<B>>>)},
    {"_packed_linear_codes.out" STROP_BY_CODES ", *, Tensor(a!) out) -> ()",
     STROP_CPU_OR_GPU(nullptr, boxed<packed_linear_by_codes<Given<B>>>)},
    {"_codes_layout(Tensor codes, Tensor scale, Tensor? zero_point, int group, str format, "
     "str activations, Tensor? bits=None) -> Tensor",
     STROP_CPU_OR_GPU(boxed<codes_layout<New<B>>>, nullptr)},
    {"_masked_layout(Tensor bits, Tensor values, int columns, str layout) -> Tensor",
     STROP_CPU_OR_GPU(boxed<masked_layout<New<B>>>, boxed<masked_starts<New<B>>>)},
};

}  // namespace

STROP_OPS_ON_DATA(kOps)

}  // namespace strop::linear
