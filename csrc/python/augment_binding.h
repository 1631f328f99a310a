#pragma once

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include "kernels/augment_arguments.h"
#include "python/quantize_codes_binding.h"

namespace strop {

// The ops of augmentation over numpy arrays, whoever runs them: a Runner has a static run() for
// each kind of arguments.

inline DType take_dtype(const char* op, Keywords& keywords) {
  const auto name = keywords.take<std::string>("dtype", "float32");
  for (int i = 0; i < static_cast<int>(DType::kOther); ++i) {
    if (name == dtype_name(static_cast<DType>(i))) return static_cast<DType>(i);
  }
  throw_value_error(op, ": dtype is '", name, "', which is not the name of one");
}

inline AugmentRequest take_augment_request(const char* op, Keywords& keywords) {
  using Numbers = std::vector<double>;
  return {.size = keywords.take<OutSize>("size", std::nullopt),
          .interpolation = keywords.take<std::string>("interpolation", "bilinear"),
          .fill_mode = keywords.take<std::string>("fill_mode", "constant"),
          .fill = keywords.take<Numbers>("fill", {0}),
          .mean = keywords.take<Numbers>("mean", {}),
          .std = keywords.take<Numbers>("std", {}),
          .dtype = take_dtype(op, keywords)};
}

template <class Runner>
pybind11::object augment_images(const pybind11::object& images, const pybind11::object& matrices,
                                const pybind11::object& out, const pybind11::kwargs& options) {
  const char* const op = "strop.augment_images";
  Keywords keywords(op, options);
  const AugmentRequest request = take_augment_request(op, keywords);
  const auto mean = keywords.take<pybind11::object>("mean_array", pybind11::none());
  const auto std = keywords.take<pybind11::object>("std_array", pybind11::none());
  keywords.finish();
  const ArrayView views[] = {{op, "images", images, false},
                             {op, "matrices", matrices, false},
                             {op, "mean", mean, false},
                             {op, "std", std, false}};
  AugmentTensors tensors = {.images = views[0].view(),
                            .matrices = views[1].view(),
                            .mean = views[2].view(),
                            .std = views[3].view()};
  check_augment(op, request, tensors);
  const pybind11::object result =
      out.is_none() ? make_array(augmented_shape(tensors.images, request), request.dtype) : out;
  const ArrayView to(op, "out", result, true);
  tensors.out = to.view();
  check_augment(op, request, tensors);
  run_without_gil<Runner>(augment_args(request, tensors));
  return result;
}

// Of images of the shape and dtype of `images`, whose values do not matter.
template <class Runner>
pybind11::object augment_gradient(const pybind11::object& gradient, const pybind11::object& images,
                                  const pybind11::object& matrices,
                                  const pybind11::kwargs& options) {
  const char* const op = "strop.augment_images";
  Keywords keywords(op, options);
  const AugmentRequest request = take_augment_request(op, keywords);
  keywords.finish();
  const pybind11::object result = empty_like(images);
  const ArrayView views[] = {{op, "gradient", gradient, false},
                             {op, "images", images, false},
                             {op, "matrices", matrices, false},
                             {op, "out", result, true}};
  const AugmentTensors tensors = {
      .images = views[1].view(), .matrices = views[2].view(), .out = views[3].view()};
  check_augment_gradient(op, request, tensors, views[0].view());
  run_without_gil<Runner>(augment_gradient_args(request, tensors, views[0].view()));
  return result;
}

template <class Runner>
pybind11::object warp_masks(const pybind11::object& masks, const pybind11::object& matrices,
                            const OutSize& size, double fill, const pybind11::object& out) {
  const char* const op = "strop.warp_masks";
  const ArrayView views[] = {{op, "masks", masks, false}, {op, "matrices", matrices, false}};
  MaskTensors tensors = {.masks = views[0].view(), .matrices = views[1].view()};
  check_warp_masks(op, tensors, size, fill);
  const pybind11::object result =
      out.is_none() ? make_array(warped_shape(tensors.masks, size), tensors.masks.dtype) : out;
  const ArrayView to(op, "out", result, true);
  tensors.out = to.view();
  check_warp_masks(op, tensors, size, fill);
  run_without_gil<Runner>(warp_masks_args(tensors, fill));
  return result;
}

template <class Runner>
void bind_augment_ops(pybind11::module_& module, const std::string& how) {
  using pybind11::arg;
  const auto none = pybind11::none();
  module.def("augment_images", &augment_images<Runner>,
             ("Warps and normalises a batch of images, " + how + ".").c_str(), arg("images"),
             arg("matrices") = none, arg("out") = none);
  module.def("augment_gradient", &augment_gradient<Runner>,
             ("The gradient of a batch of images, " + how + ".").c_str(), arg("gradient"),
             arg("images"), arg("matrices") = none);
  module.def("warp_masks", &warp_masks<Runner>, ("Warps masks, " + how + ".").c_str(), arg("masks"),
             arg("matrices") = none, arg("size") = none, arg("fill") = 0.0, arg("out") = none);
}

}  // namespace strop
