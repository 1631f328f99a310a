#pragma once

#include <torch/csrc/stable/library.h>

#include <optional>
#include <utility>
#include <vector>

#include "core/torch/tensor_arguments.h"

namespace strop {

using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;

// Where an op's result goes: to a tensor of its own, to out=, to its first argument.
enum class Out { kNew, kGiven, kInPlace };

// One call of a torch op. An op is a function of a Call, which is written once: it takes its
// arguments in the order of the schema, and for numpy's arrays (core/numpy/call.h) by name. The
// Backend says where kernels run; see core/torch/backends.h.
template <class Backend, Out kOut>
class TorchCall {
 public:
  using Tensor = torch::stable::Tensor;
  static constexpr bool kInPlace = kOut == Out::kInPlace;
  static constexpr bool kGiven = kOut == Out::kGiven;
  static constexpr bool kByName = false;  // whether arguments are found by their names

  // What is written to is the last argument. It is taken first: an argument that is not taken,
  // since another is refused, would live for ever.
  TorchCall(StableIValue* values, std::uint64_t arguments) : next_(values), result_(values) {
    if constexpr (kGiven) out_ = torch::stable::detail::to<Tensor>(values[arguments - 1]);
  }

  Tensor tensor(const char*) { return take<Tensor>(); }
  OptionalTensor optional_tensor(const char*) { return take<OptionalTensor>(); }
  std::vector<Tensor> tensors(const char*) { return take<std::vector<Tensor>>(); }
  // A default is for numpy: torch brings it from the schema.
  template <class T>
  T option(const char*) {
    return take<T>();
  }
  template <class T, class Default>
  T option(const char*, const Default&) {
    return take<T>();
  }
  std::vector<std::int64_t> sizes(const char*) { return take<std::vector<std::int64_t>>(); }
  DType dtype(const char*) { return dtype_of_scalar(take<torch::headeronly::ScalarType>()); }
  // What numpy has in one argument.
  std::pair<std::optional<double>, OptionalTensor> number_or_tensor(const char*) {
    auto number = take<std::optional<double>>();
    return {number, take<OptionalTensor>()};
  }

  // What the result is to be written to, where there is something yet.
  OptionalTensor out([[maybe_unused]] const Tensor& first) {
    if constexpr (kInPlace) return first;
    return std::move(out_);
  }
  Tensor empty_like(const Tensor& tensor) { return strop::empty_like(tensor, view_of(tensor)); }
  Tensor empty(const std::vector<std::int64_t>& shape, DType dtype, const Tensor& beside,
               bool channels_last = false) {
    return channels_last ? empty_channels_last(shape, dtype, beside)
                         : empty_of(shape, dtype, beside);
  }
  Tensor zeros(const std::vector<std::int64_t>& shape, DType dtype, const Tensor& beside) {
    Tensor made = empty(shape, dtype, beside);
    const TensorView view = view_of(made);
    Backend(beside).clear(view.data, view.numel() * dtype_size(dtype));
    return made;
  }
  // A result that there is none of: numpy's None.
  Tensor nothing(DType dtype, const Tensor& beside) { return empty({0}, dtype, beside); }
  // An argument whose elements lie in order.
  Tensor contiguous(const char*, const Tensor& tensor) { return made_contiguous(tensor); }

  // An argument whose first element lies on a multiple of so many bytes.
  Tensor aligned(const char*, const Tensor& tensor, std::size_t bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(tensor.data_ptr());
    return first % bytes == 0 ? tensor : copied(tensor);
  }

  template <class Args>
  void run(const Tensor& on, const Args& args) {
    Backend backend(on);
    backend(args);
  }
  // A number that a kernel has written.
  std::int64_t read(const Tensor& on, const std::int64_t* number) {
    return Backend(on).read(number);
  }

  // The results, one by one. What was written to has no other.
  template <class Result>
  void give(Result&& result) {
    if constexpr (kOut == Out::kNew) {
      *result_++ = torch::stable::detail::from(std::forward<Result>(result));
    }
  }

 private:
  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }

  StableIValue* next_;
  StableIValue* result_;
  OptionalTensor out_ = std::nullopt;
};

template <class Backend>
using New = TorchCall<Backend, Out::kNew>;
template <class Backend>
using Given = TorchCall<Backend, Out::kGiven>;
template <class Backend>
using InPlace = TorchCall<Backend, Out::kInPlace>;

}  // namespace strop
