#include "core/torch/tensor_arguments.h"

#include <dlfcn.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>

#include "core/dtype_named.h"
#include "core/failed_allocation.h"
#include "core/forked.h"

namespace strop {
namespace {

using torch::headeronly::DeviceType;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

std::int32_t torch_dtype(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return aoti_torch_dtype_float32();
    case DType::kFloat64:
      return aoti_torch_dtype_float64();
    case DType::kBFloat16:
      return aoti_torch_dtype_bfloat16();
    case DType::kFloat16:
      return aoti_torch_dtype_float16();
    case DType::kInt8:
      return aoti_torch_dtype_int8();
    case DType::kUInt16:
      return aoti_torch_dtype_uint16();
    case DType::kInt16:
      return aoti_torch_dtype_int16();
    case DType::kUInt32:
      return aoti_torch_dtype_uint32();
    case DType::kInt32:
      return aoti_torch_dtype_int32();
    case DType::kUInt64:
      return aoti_torch_dtype_uint64();
    case DType::kInt64:
      return aoti_torch_dtype_int64();
    case DType::kBool:
      return aoti_torch_dtype_bool();
    default:
      return aoti_torch_dtype_uint8();
  }
}

// torch's own words for what it last raised in this thread, which torch 2.13 keeps.
std::string last_text_of_torch() {
  using What = const char* (*)();
  static const auto what =
      reinterpret_cast<What>(dlsym(RTLD_DEFAULT, "torch_exception_get_what_without_backtrace"));
  const char* const text = what == nullptr ? nullptr : what();
  return text == nullptr ? "" : text;
}

// See Note [Failed allocations].
[[noreturn, gnu::cold]] void throw_no_memory(const TensorView& layout, int gpu) {
  FailedAllocation failed = {.shape = {layout.shape, layout.shape + layout.dims},
                             .stride = {layout.stride, layout.stride + layout.dims},
                             .item = dtype_size(layout.dtype),
                             .gpu = gpu,
                             .text = last_text_of_torch()};
  if (failed.text.empty()) {
    std::ostringstream text;
    text << "can't allocate memory: a tensor of shape " << shape_text(layout.shape, layout.dims)
         << ", " << dtype_size(layout.dtype) << " bytes an element";
    failed.text = text.str();
  }
  const std::runtime_error error(failed.text);
  leave_failed_allocation(std::move(failed));
  throw error;
}

// Of the layout's shape, strides and dtype.
Tensor empty_on_device_of(const Tensor& tensor, const TensorView& layout) {
  std::int32_t device_type = 0, device_index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor.get(), &device_index));
  AtenTensorHandle handle = nullptr;
  const auto failed =
      aoti_torch_empty_strided(layout.dims, layout.shape, layout.stride, torch_dtype(layout.dtype),
                               device_type, device_index, &handle);
  if (failed) throw_no_memory(layout, tensor.is_cpu() ? -1 : device_index);
  return Tensor(handle);
}

// The elements, row-major, to a stretch of memory, by this thread.
void copy_elements(const TensorView& from, void* to) {
  const auto item = static_cast<std::size_t>(dtype_size(from.dtype));
  const auto* const first = static_cast<const std::uint8_t*>(from.data);
  auto* next = static_cast<std::uint8_t*>(to);
  std::vector<std::int64_t> position(static_cast<std::size_t>(from.dims));
  std::int64_t offset = 0;
  for (std::int64_t left = from.numel(); left > 0; --left, next += item) {
    std::memcpy(next, first + offset * static_cast<std::int64_t>(item), item);
    for (int d = from.dims - 1; d >= 0; --d) {
      auto& at = position[static_cast<std::size_t>(d)];
      offset += from.stride[d];
      if (++at < from.shape[d]) break;
      offset -= from.shape[d] * from.stride[d];
      at = 0;
    }
  }
}

// What the threads of one job share: an exception that passes torch's stable ABI loses its kind.
struct Job {
  Parallel::Body body;
  void* context;
  std::atomic_flag failed = {};
  std::exception_ptr error = {};

  static void run(std::int64_t begin, std::int64_t end, void* self) {
    Job& job = *static_cast<Job*>(self);
    try {
      job.body(begin, end, job.context);
    } catch (...) {
      if (!job.failed.test_and_set()) job.error = std::current_exception();
    }
  }
};

// By torch's name of it: Float8_e4m3fn is float8_e4m3fn.
DType other_dtype(ScalarType type) {
  if (type == ScalarType::ComplexHalf) return dtype_named("complex32");
  std::string name = torch::headeronly::toString(type);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return dtype_named(name);
}

DType dtype_of_tensor(const Tensor& tensor) {
  try {
    return dtype_of_scalar(tensor.scalar_type());
  } catch (const std::exception&) {  // one that the stable ABI does not translate
    std::int32_t dtype = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &dtype));
    return other_dtype(static_cast<ScalarType>(dtype));
  }
}

}  // namespace

DType dtype_of_scalar(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    case ScalarType::Double:
      return DType::kFloat64;
    case ScalarType::Byte:
      return DType::kUInt8;
    case ScalarType::Char:
      return DType::kInt8;
    case ScalarType::UInt16:
      return DType::kUInt16;
    case ScalarType::Short:
      return DType::kInt16;
    case ScalarType::UInt32:
      return DType::kUInt32;
    case ScalarType::Int:
      return DType::kInt32;
    case ScalarType::UInt64:
      return DType::kUInt64;
    case ScalarType::Long:
      return DType::kInt64;
    case ScalarType::Bool:
      return DType::kBool;
    case ScalarType::ComplexFloat:
      return DType::kComplex64;
    case ScalarType::ComplexDouble:
      return DType::kComplex128;
    default:
      return other_dtype(type);
  }
}

TensorView view_of(const Tensor& tensor) {
  TensorView view;
  view.present = true;
  view.dtype = dtype_of_tensor(tensor);
  view.dims = static_cast<int>(tensor.dim());
  const auto device = tensor.is_cpu() ? DeviceType::CPU : tensor.device().type();
  view.device = device == DeviceType::CPU
                    ? -1
                    : 256 * static_cast<int>(device) + static_cast<int>(tensor.get_device_index());
  view.data = device == DeviceType::Meta ? nullptr : tensor.data_ptr();
  view.shape = tensor.sizes().data();
  view.stride = tensor.strides().data();
  return view;
}

TensorView view_of(const std::optional<Tensor>& tensor) {
  return tensor ? view_of(*tensor) : TensorView{};
}

// Past the dispatcher, which torch::stable's functions go through: 2 us less.
Tensor empty_like(const Tensor& tensor, const TensorView& view) {
  if (is_dense(view) && view.numel() > 0) return empty_on_device_of(tensor, view);
  try {
    return torch::stable::empty_like(tensor);
  } catch (const std::exception&) {
    empty_of({view.shape, view.shape + view.dims}, view.dtype, tensor);  // says it, if it is memory
    throw;
  }
}

Tensor copied(const Tensor& tensor) {
  const TensorView view = view_of(tensor);
  Tensor copy = empty_of({view.shape, view.shape + view.dims}, view.dtype, tensor);
  if (lost_threads() && tensor.is_cpu()) {  // torch might wait for them
    copy_elements(view, copy.data_ptr());
  } else {
    torch::stable::copy_(copy, tensor);
  }
  return copy;
}

Tensor made_contiguous(const Tensor& tensor) {
  return is_contiguous(view_of(tensor)) ? tensor : copied(tensor);
}

Tensor empty_bytes(std::int64_t count, const Tensor& beside) {
  const std::int64_t step = 1;
  TensorView view;
  view.dtype = DType::kUInt8;
  view.dims = 1;
  view.shape = &count;
  view.stride = &step;
  return empty_on_device_of(beside, view);
}

Tensor empty_of(const std::vector<std::int64_t>& shape, DType dtype, const Tensor& beside) {
  std::vector<std::int64_t> stride(shape.size(), 1);
  for (std::size_t d = shape.size(); d-- > 1;) {
    stride[d - 1] = stride[d] * (shape[d] > 1 ? shape[d] : 1);
  }
  TensorView view;
  view.dtype = dtype;
  view.dims = static_cast<int>(shape.size());
  view.shape = shape.data();
  view.stride = stride.data();
  return empty_on_device_of(beside, view);
}

Tensor empty_channels_last(const std::vector<std::int64_t>& shape, DType dtype,
                           const Tensor& beside) {
  const std::int64_t column = shape[1], row = column * shape[3];
  const std::int64_t stride[] = {row * shape[2], 1, row, column};
  TensorView view;
  view.dtype = dtype;
  view.dims = 4;
  view.shape = shape.data();
  view.stride = stride;
  return empty_on_device_of(beside, view);
}

Parallel torch_threads() {
  Parallel parallel;
  if (lost_threads()) return parallel;
  parallel.threads = static_cast<int>(torch::stable::get_num_threads());
  parallel.run = [](std::int64_t count, std::int64_t grain, Parallel::Body body, void* context) {
    Job job = {.body = body, .context = context};
    const auto failed = torch_parallel_for(0, count, grain, Job::run, &job);
    if (job.error) std::rethrow_exception(job.error);
    TORCH_ERROR_CODE_CHECK(failed);
  };
  return parallel;
}

}  // namespace strop
