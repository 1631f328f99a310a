#pragma once

#include "augment/arguments.h"
#include "augment/boxes.h"
#include "core/argument_error.h"

namespace strop::augment {

// The ops of augmentation, as functions of a Call: see core/torch/call.h.

inline constexpr const char* kAugmentImages = "strop.augment_images";
inline constexpr const char* kWarpMasks = "strop.warp_masks";

template <class Call>
std::vector<double> take_numbers(Call& call, const char* name) {
  const auto numbers = call.template option<std::optional<std::vector<double>>>(name);
  if (!numbers || (Call::kByName && numbers->empty())) return {};
  if (!numbers->empty()) return *numbers;
  throw_value_error(kAugmentImages, ": ", name,
                    " has no values; one for each channel is needed, or one for all");
}

template <class Call>
AugmentRequest take_augment_request(Call& call) {
  AugmentRequest request;
  request.size = call.template option<OutSize>("size");
  request.mean = take_numbers(call, "mean");
  request.std = take_numbers(call, "std");
  request.interpolation = call.template option<std::string>("interpolation", "bilinear");
  request.fill_mode = call.template option<std::string>("fill_mode", "constant");
  request.fill = call.template option<std::vector<double>>("fill", request.fill);
  request.dtype = call.dtype("dtype");
  return request;
}

template <class Call>
void augment_images(Call& call) {
  const char* const op = kAugmentImages;
  const auto images = call.tensor("images");
  const auto matrices = call.optional_tensor("matrices");
  const auto mean = call.optional_tensor("mean_array");
  const auto std = call.optional_tensor("std_array");
  const AugmentRequest request = take_augment_request(call);
  auto out = call.out(images);
  const bool channels_last = !out && call.template option<bool>("channels_last");
  AugmentTensors tensors = {.images = view_of(images),
                            .matrices = view_of(matrices),
                            .mean = view_of(mean),
                            .std = view_of(std),
                            .out = view_of(out)};
  check_augment(op, request, tensors);
  if (!out) {
    tensors.out = view_of(out.emplace(call.empty(augmented_shape(tensors.images, request),
                                                 request.dtype, images, channels_last)));
  }
  call.run(images, augment_args(request, tensors));
  call.give(std::move(*out));
}

// The gradient of augment_images' input, by that of its result; numpy's binding has an array like
// the input in place of its size and dtype.
template <class Call>
void augment_gradient(Call& call) {
  const char* const op = kAugmentImages;
  const auto gradient = call.tensor("gradient");
  const auto matrices = call.optional_tensor("matrices");
  const auto std = call.optional_tensor("std_array");
  const auto size = call.template option<std::vector<std::int64_t>>("size");
  AugmentRequest request;
  request.std = take_numbers(call, "std");
  request.interpolation = call.template option<std::string>("interpolation");
  request.fill_mode = call.template option<std::string>("fill_mode");
  const DType dtype = call.dtype("dtype");
  const bool channels_last = call.template option<bool>("channels_last");
  const TensorView from = view_of(gradient);
  // This op is called by strop alone, with a gradient of augment_images' result.
  if (from.dims != 4 || size.size() != 2 || !is_floating(dtype)) {
    throw_value_error(op, ": there is no such gradient");
  }
  request.size = {from.shape[2], from.shape[3]};
  auto out =
      call.empty({from.shape[0], from.shape[1], size[0], size[1]}, dtype, gradient, channels_last);
  const AugmentTensors tensors = {.images = view_of(out),
                                  .matrices = view_of(matrices),
                                  .std = view_of(std),
                                  .out = view_of(out)};
  check_augment_gradient(op, request, tensors, from);
  call.run(gradient, augment_gradient_args(request, tensors, from));
  call.give(std::move(out));
}

template <class Call>
void warp_masks(Call& call) {
  const char* const op = kWarpMasks;
  const auto masks = call.tensor("masks");
  const auto matrices = call.optional_tensor("matrices");
  const auto size = call.template option<OutSize>("size");
  const auto fill = call.template option<double>("fill");
  auto out = call.out(masks);
  MaskTensors tensors = {
      .masks = view_of(masks), .matrices = view_of(matrices), .out = view_of(out)};
  check_warp_masks(op, tensors, size, fill);
  if (!out) {
    out.emplace(call.empty(warped_shape(tensors.masks, size), tensors.masks.dtype, masks));
    tensors.out = view_of(out);
  }
  call.run(masks, warp_masks_args(tensors, fill));
  call.give(std::move(*out));
}

template <class Call>
void warp_points(Call& call) {
  const auto points = call.tensor("points");
  const auto matrices = call.tensor("matrices");
  const TensorView from = view_of(points), by = view_of(matrices);
  check_warped_items("strop.warp_points", from, 2, by);
  auto out = call.empty({from.shape, from.shape + 3}, from.dtype, points);
  call.run(points, WarpPointsArgs{.points = warped_items(from, by), .out = view_of(out).data});
  call.give(std::move(out));
}

template <class Call, bool kVisible>
void warp_boxes(Call& call) {
  const auto boxes = call.tensor("boxes");
  const auto matrices = call.tensor("matrices");
  const auto height = call.template option<std::int64_t>("height");
  const auto width = call.template option<std::int64_t>("width");
  const TensorView from = view_of(boxes), by = view_of(matrices);
  check_warped_items("strop.warp_boxes", from, 4, by);
  auto out = call.empty({from.shape, from.shape + 3}, from.dtype, boxes);
  WarpBoxesArgs args = {.boxes = warped_items(from, by),
                        .height = static_cast<double>(height),
                        .width = static_cast<double>(width),
                        .out = view_of(out).data,
                        .visible = nullptr};
  if constexpr (kVisible) {
    auto visible = call.empty({from.shape, from.shape + 2}, from.dtype, boxes);
    args.visible = view_of(visible).data;
    call.run(boxes, args);
    call.give(std::move(out));
    call.give(std::move(visible));
  } else {
    call.run(boxes, args);
    call.give(std::move(out));
  }
}

}  // namespace strop::augment
