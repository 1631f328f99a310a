#pragma once

#include "augment/ops.h"
#include "core/numpy/call.h"

namespace strop::augment {

// Of images of the shape and dtype of `images`, whose values do not matter.
template <class Call>
void augment_gradient_like(Call& call) {
  const char* const op = kAugmentImages;
  const auto gradient = call.tensor("gradient");
  const auto images = call.tensor("images");
  const auto matrices = call.optional_tensor("matrices");
  const AugmentRequest request = take_augment_request(call);
  auto out = call.empty_like(images);
  const AugmentTensors tensors = {
      .images = view_of(images), .matrices = view_of(matrices), .out = view_of(out)};
  check_augment_gradient(op, request, tensors, view_of(gradient));
  call.run(gradient, augment_gradient_args(request, tensors, view_of(gradient)));
  call.give(out);
}

#define STROP_OPTIONS                                                                          \
  "size=None, interpolation='bilinear', fill_mode='constant', fill=[0], mean=None, std=None, " \
  "dtype='float32'"

template <class B>
constexpr ArrayOp<B> kAugmentArrayOps[] = {
    {"augment_images(images, matrices=None, out=None, " STROP_OPTIONS
     ", mean_array=None, std_array=None)",
     kAugmentImages, augment_images<NumpyCall<B>>},
    {"augment_gradient(gradient, images, matrices=None, " STROP_OPTIONS ")", kAugmentImages,
     augment_gradient_like<NumpyCall<B>>},
    {"warp_masks(masks, matrices=None, size=None, fill=0.0, out=None)", kWarpMasks,
     warp_masks<NumpyCall<B>>},
};

// Those that no GPU's kernels have.
template <class B>
constexpr ArrayOp<B> kWarpArrayOps[] = {
    {"warp_points(points, matrices)", "strop.warp_points", warp_points<NumpyCall<B>>},
    {"warp_boxes(boxes, matrices, height, width)", "strop.warp_boxes",
     warp_boxes<NumpyCall<B>, false>},
    {"warp_boxes_visible(boxes, matrices, height, width)", "strop.warp_boxes",
     warp_boxes<NumpyCall<B>, true>},
};

}  // namespace strop::augment
