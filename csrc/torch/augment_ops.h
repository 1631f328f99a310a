#pragma once

#include <torch/csrc/stable/library.h>

#include "kernels/augment_arguments.h"
#include "torch/quantize_ops.h"
#include "torch/tensor_arguments.h"

namespace strop {

// The ops of augmentation for one kind of device. A Backend is made for a tensor, and makes its
// device the current one while it lives; it has the kernels:
//   void augment_images(const AugmentArgs&)
//   void augment_gradient(const AugmentGradientArgs&)
//   void warp_masks(const WarpMasksArgs&)

inline constexpr const char* kAugmentImages = "strop.augment_images";
inline constexpr const char* kWarpMasks = "strop.warp_masks";

// mean and std travel as numbers where they can, so that nothing is copied to a GPU; as tensors
// they stay where they are. Tensors are no keywords: torch's vmap does not look for any there.
inline constexpr const char* kAugmentArguments =
    "(Tensor images, Tensor? matrices=None, Tensor? mean_tensor=None, Tensor? std_tensor=None, *, "
    "SymInt[]? size=None, float[]? mean=None, float[]? std=None, str interpolation='bilinear', "
    "str fill_mode='constant', float[] fill=[0.0], ScalarType dtype=float";
// Of images of `size` and `dtype`; the gradient has the size of augment_images' result.
inline constexpr const char* kAugmentGradientArguments =
    "(Tensor gradient, Tensor? matrices, Tensor? std_tensor, *, SymInt[] size, float[]? std=None, "
    "str interpolation='bilinear', str fill_mode='constant', ScalarType dtype=float, "
    "bool channels_last=False";
inline constexpr const char* kWarpMasksArguments =
    "(Tensor masks, Tensor? matrices=None, *, SymInt[]? size=None, float fill=0.0";

template <class Library>
void define_augment_ops(Library& m) {
  const auto define = [&](const char* name, const char* arguments, const char* result) {
    m.def((std::string(name) + arguments + result).c_str());
  };
  define("augment_images", kAugmentArguments, ", bool channels_last=False) -> Tensor");
  define("augment_images.out", kAugmentArguments, ", Tensor(a!) out) -> ()");
  define("_augment_gradient", kAugmentGradientArguments, ") -> Tensor");
  define("warp_masks", kWarpMasksArguments, ") -> Tensor");
  define("warp_masks.out", kWarpMasksArguments, ", Tensor(a!) out) -> ()");
}

template <class Backend>
struct AugmentOps {
  // One call's arguments.
  struct Call {
    Tensor images;
    OptionalTensor matrices;
    OptionalTensor mean;
    OptionalTensor std;
    AugmentRequest request = {};

    AugmentTensors tensors(const OptionalTensor& out) const {
      return {.images = view_of(images),
              .matrices = view_of(matrices),
              .mean = view_of(mean),
              .std = view_of(std),
              .out = view_of(out)};
    }
  };

  static std::vector<double> take_numbers(Stack& stack, const char* name) {
    const auto numbers = stack.take<std::optional<std::vector<double>>>();
    if (!numbers) return {};
    if (!numbers->empty()) return *numbers;
    throw_value_error(kAugmentImages, ": ", name,
                      " has no values; one for each channel is needed, or one for all");
  }

  static DType take_dtype(Stack& stack) {
    return dtype_of_scalar(stack.take<torch::headeronly::ScalarType>());
  }

  static Call take_call(Stack& stack) {
    Call call = {.images = stack.take<Tensor>(),
                 .matrices = stack.take<OptionalTensor>(),
                 .mean = stack.take<OptionalTensor>(),
                 .std = stack.take<OptionalTensor>()};
    AugmentRequest& request = call.request;
    request.size = stack.take<OutSize>();
    request.mean = take_numbers(stack, "mean");
    request.std = take_numbers(stack, "std");
    request.interpolation = stack.take<std::string>();
    request.fill_mode = stack.take<std::string>();
    request.fill = stack.take<std::vector<double>>();
    request.dtype = take_dtype(stack);
    return call;
  }

  static Tensor empty_images(const std::vector<std::int64_t>& shape, DType dtype,
                             bool channels_last, const Tensor& beside) {
    return channels_last ? empty_channels_last(shape, dtype, beside)
                         : empty_of(shape, dtype, beside);
  }

  static void run(const Call& call, const Tensor& out) {
    Backend backend(call.images);
    backend.augment_images(augment_args(call.request, call.tensors(out)));
  }

  static void augment_images(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Call call = take_call(stack);
    const bool channels_last = stack.take<bool>();
    const AugmentTensors tensors = call.tensors({});
    check_augment(kAugmentImages, call.request, tensors);
    Tensor out = empty_images(augmented_shape(tensors.images, call.request), call.request.dtype,
                              channels_last, call.images);
    run(call, out);
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void augment_images_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Call call = take_call(stack);
    const Tensor out = stack.take<Tensor>();
    check_augment(kAugmentImages, call.request, call.tensors(out));
    run(call, out);
  }

  static void augment_gradient(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor gradient = stack.take<Tensor>();
    const OptionalTensor matrices = stack.take<OptionalTensor>();
    const OptionalTensor std = stack.take<OptionalTensor>();
    const auto size = stack.take<std::vector<std::int64_t>>();
    AugmentRequest request;
    request.std = take_numbers(stack, "std");
    request.interpolation = stack.take<std::string>();
    request.fill_mode = stack.take<std::string>();
    const DType dtype = take_dtype(stack);
    const bool channels_last = stack.take<bool>();
    const TensorView from = view_of(gradient);
    // This op is called by strop alone, with a gradient of augment_images' result.
    if (from.dims != 4 || size.size() != 2 || !is_floating(dtype)) {
      throw_value_error(kAugmentImages, ": there is no such gradient");
    }
    request.size = {from.shape[2], from.shape[3]};
    Tensor out = empty_images({from.shape[0], from.shape[1], size[0], size[1]}, dtype,
                              channels_last, gradient);
    const AugmentTensors tensors = {.images = view_of(out),
                                    .matrices = view_of(matrices),
                                    .mean = {},
                                    .std = view_of(std),
                                    .out = view_of(out)};
    check_augment_gradient(kAugmentImages, request, tensors, from);
    Backend backend(gradient);
    backend.augment_gradient(augment_gradient_args(request, tensors, from));
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void warp_masks(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor masks = stack.take<Tensor>();
    const OptionalTensor matrices = stack.take<OptionalTensor>();
    const OutSize size = stack.take<OutSize>();
    const double fill = stack.take<double>();
    MaskTensors tensors = {.masks = view_of(masks), .matrices = view_of(matrices)};
    check_warp_masks(kWarpMasks, tensors, size, fill);
    Tensor out = empty_of(warped_shape(tensors.masks, size), tensors.masks.dtype, masks);
    tensors.out = view_of(out);
    Backend backend(masks);
    backend.warp_masks(warp_masks_args(tensors, fill));
    values[0] = torch::stable::detail::from(std::move(out));
  }

  static void warp_masks_out(StableIValue* values, std::uint64_t, std::uint64_t) {
    Stack stack(values);
    const Tensor masks = stack.take<Tensor>();
    const OptionalTensor matrices = stack.take<OptionalTensor>();
    const OutSize size = stack.take<OutSize>();
    const double fill = stack.take<double>();
    const Tensor out = stack.take<Tensor>();
    const MaskTensors tensors = {
        .masks = view_of(masks), .matrices = view_of(matrices), .out = view_of(out)};
    check_warp_masks(kWarpMasks, tensors, size, fill);
    Backend backend(masks);
    backend.warp_masks(warp_masks_args(tensors, fill));
  }

  template <class Library>
  static void implement(Library& m) {
    m.impl("augment_images", augment_images);
    m.impl("augment_images.out", augment_images_out);
    m.impl("_augment_gradient", augment_gradient);
    m.impl("warp_masks", warp_masks);
    m.impl("warp_masks.out", warp_masks_out);
  }
};

}  // namespace strop
