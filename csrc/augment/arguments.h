#pragma once

#include <optional>
#include <string>
#include <vector>

#include "augment/images.h"
#include "core/tensor_view.h"

namespace strop::augment {

// augment_images' options as a caller wrote them.
struct AugmentRequest {
  std::optional<std::vector<std::int64_t>> size = {};  // rows, columns
  std::string interpolation = "bilinear";
  std::string fill_mode = "constant";
  std::vector<double> fill = {0};  // one, or one a channel, as mean and std
  std::vector<double> mean = {};   // empty: 0
  std::vector<double> std = {};    // empty: 1
  DType dtype = DType::kFloat32;
};

struct AugmentTensors {
  TensorView images;         // [B, C, H, W]
  TensorView matrices = {};  // [B, 2, 3] or [1, 2, 3], float32 or float64
  TensorView mean = {};      // float32 of 1 or C, in place of the request's
  TensorView std = {};
  TensorView out = {};  // absent where it does not exist yet
};

// Each throws ArgumentError before anything is allocated.

void check_augment(const char* op, const AugmentRequest& request, const AugmentTensors& tensors);
// [B, C, H', W'] of the result.
std::vector<std::int64_t> augmented_shape(const TensorView& images, const AugmentRequest& request);
// Of checked tensors, `out` among them.
AugmentArgs augment_args(const AugmentRequest& request, const AugmentTensors& tensors);

// The gradient: `request` and `tensors` as the forward had them, `images` being what is returned.
void check_augment_gradient(const char* op, const AugmentRequest& request,
                            const AugmentTensors& tensors, const TensorView& gradient);
AugmentGradientArgs augment_gradient_args(const AugmentRequest& request,
                                          const AugmentTensors& tensors,
                                          const TensorView& gradient);

struct MaskTensors {
  TensorView masks;  // [B, H, W] or [B, C, H, W], of any dtype
  TensorView matrices = {};
  TensorView out = {};
};
using OutSize = std::optional<std::vector<std::int64_t>>;

void check_warp_masks(const char* op, const MaskTensors& tensors, const OutSize& size, double fill);
std::vector<std::int64_t> warped_shape(const TensorView& masks, const OutSize& size);
WarpMasksArgs warp_masks_args(const MaskTensors& tensors, double fill);

}  // namespace strop::augment
