#include "kernels/augment_arguments.h"

#include <cmath>

#include "kernels/argument_error.h"
#include "kernels/warp_arguments.h"

namespace strop {
namespace {

template <class Value>
struct Named {
  const char* name;
  Value value;
};

constexpr Named<Interpolation> kInterpolations[] = {{"bilinear", Interpolation::kBilinear},
                                                    {"nearest", Interpolation::kNearest}};
constexpr Named<FillMode> kFillModes[] = {
    {"constant", FillMode::kConstant}, {"hard_constant", FillMode::kHardConstant},
    {"nearest", FillMode::kNearest},   {"reflect", FillMode::kReflect},
    {"mirror", FillMode::kMirror},     {"wrap", FillMode::kWrap},
    {"grid_wrap", FillMode::kGridWrap}};

template <class Value, std::size_t kCount>
Value named(const char* op, const char* what, const Named<Value> (&all)[kCount],
            const std::string& name) {
  std::string known;
  for (const Named<Value>& each : all) {
    if (name == each.name) return each.value;
    known += (known.empty() ? "'" : ", '") + std::string(each.name) + "'";
  }
  throw_value_error(op, ": ", what, " is '", name, "'; one of ", known, " is needed");
}

void check_count(const char* op, const char* name, std::size_t count, std::int64_t channels) {
  if (count == 1 || static_cast<std::int64_t>(count) == channels) return;
  throw_value_error(op, ": ", name, " has ", count, " values for images of ", channels,
                    channels == 1 ? " channel; one is needed"
                                  : " channels; one for each is needed, or one for all");
}

void check_fill(const char* op, const AugmentRequest& request, const TensorView& images) {
  check_count(op, "fill", request.fill.size(), images.shape[1]);
  if (images.dtype != DType::kUInt8) return;
  for (const double value : request.fill) {
    if (value >= 0 && value <= 255) continue;
    throw_value_error(op, ": fill is ", value, "; uint8 images have values from 0 to 255");
  }
}

void check_numbers(const char* op, const AugmentRequest& request, std::int64_t channels) {
  if (!request.mean.empty()) check_count(op, "mean", request.mean.size(), channels);
  if (!request.std.empty()) check_count(op, "std", request.std.size(), channels);
  check_mean(op, request.mean);
  check_std(op, request.std);
}

void check_numbers_tensor(const char* op, const char* name, const TensorView& numbers,
                          const TensorView& images) {
  if (!numbers.present) return;
  if (numbers.dtype != DType::kFloat32) {
    throw_type_error(op, ": ", name, " has dtype ", dtype_name(numbers.dtype),
                     "; float32 is needed");
  }
  check_beside(op, name, numbers, "images", images);
  if (numbers.dims > 1) {
    throw_value_error(op, ": ", name, " has shape ", shape_text(numbers.shape, numbers.dims),
                      "; one value for each channel is needed, or one for all");
  }
  check_count(op, name, static_cast<std::size_t>(numbers.numel()), images.shape[1]);
}

void check_images(const char* op, const TensorView& images) {
  if (images.dtype != DType::kUInt8 && !is_floating(images.dtype)) {
    throw_type_error(op, ": images have dtype ", dtype_name(images.dtype),
                     "; uint8, float32, bfloat16, float16 or float64 is needed");
  }
  if (images.dims != 4) {
    throw_value_error(op, ": images have shape ", shape_text(images.shape, images.dims),
                      "; four dimensions are needed: batch, channels, rows, columns");
  }
  const std::int64_t channels = images.shape[1];
  if (channels != 1 && channels != 3 && channels != 4) {
    throw_value_error(op, ": images of shape ", shape_text(images.shape, 4), " have ", channels,
                      " channels; 1, 3 or 4 are supported");
  }
}

void check_dtype(const char* op, const AugmentRequest& request, const AugmentTensors& tensors) {
  if (request.dtype != DType::kUInt8 && !is_floating(request.dtype)) {
    throw_type_error(op, ": dtype is ", dtype_name(request.dtype),
                     "; float32, bfloat16, float16, float64 or uint8 is needed");
  }
  if (request.dtype != DType::kUInt8) return;
  const bool mean = !request.mean.empty() || tensors.mean.present;
  if (mean || !request.std.empty() || tensors.std.present) {
    throw_value_error(op, ": ", mean ? "mean" : "std",
                      " is given, and dtype is uint8, which is not normalised");
  }
}

template <class Views>
Normalization normalization(const AugmentRequest& request, const Views& tensors) {
  Normalization result;
  for (std::size_t c = 0; c < kMostImageChannels; ++c) {
    const auto of = [&](const std::vector<double>& values) {
      return values[values.size() == 1 || c >= values.size() ? 0 : c];
    };
    if (!request.mean.empty()) result.mean[c] = of(request.mean);
    if (!request.std.empty()) result.std[c] = of(request.std);
  }
  const auto data = [](const TensorView& view, const float*& at, std::int64_t& stride) {
    if (!view.present) return;
    at = static_cast<const float*>(view.data);
    stride = view.dims == 1 && view.shape[0] > 1 ? view.stride[0] : 0;
  };
  data(tensors.mean, result.mean_data, result.mean_stride);
  data(tensors.std, result.std_data, result.std_stride);
  return result;
}

Warp warp_of(const AugmentRequest& request, const AugmentTensors& tensors) {
  const std::vector<std::int64_t> to = augmented_shape(tensors.images, request);
  Warp warp = make_warp(tensors.images.shape, to.data(), tensors.matrices);
  warp.interpolation = named("", "", kInterpolations, request.interpolation);
  warp.fill_mode = named("", "", kFillModes, request.fill_mode);
  return warp;
}

// A number as images of a dtype have it.
float element_of(DType dtype, double value) {
  if (dtype == DType::kUInt8) return static_cast<float>(std::nearbyint(value));
  const auto narrow = static_cast<float>(value);
  return by_narrow_dtype(dtype, [&]<class T>() { return to_float(FromFloat<T>::call(narrow)); });
}

ImageStrides strides_of(const TensorView& view) {
  return {view.stride[0], view.stride[1], view.stride[2], view.stride[3]};
}

void check_request(const char* op, const AugmentRequest& request, const AugmentTensors& tensors) {
  check_images(op, tensors.images);
  named(op, "interpolation", kInterpolations, request.interpolation);
  named(op, "fill_mode", kFillModes, request.fill_mode);
  check_sides(op, "images", tensors.images, request.size);
  if (tensors.matrices.present) check_matrices(op, tensors.matrices, "images", tensors.images);
  check_fill(op, request, tensors.images);
  check_numbers(op, request, tensors.images.shape[1]);
  check_numbers_tensor(op, "mean", tensors.mean, tensors.images);
  check_numbers_tensor(op, "std", tensors.std, tensors.images);
  check_dtype(op, request, tensors);
}

}  // namespace

void check_mean(const char* op, const std::vector<double>& mean) {
  for (const double value : mean) {
    if (!std::isfinite(value)) throw_value_error(op, ": mean is ", value, "; it must be finite");
  }
}

void check_std(const char* op, const std::vector<double>& std) {
  for (const double value : std) {
    if (std::isfinite(value) && value != 0) continue;
    throw_value_error(op, ": std is ", value, "; it must be finite and not 0");
  }
}

std::vector<double> numbers_in(const TensorView& tensor) {
  if (!tensor.present) return {};
  std::vector<double> numbers;
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const std::int64_t at = tensor.dims == 1 ? i * tensor.stride[0] : 0;
    numbers.push_back(static_cast<const float*>(tensor.data)[at]);
  }
  return numbers;
}

std::vector<std::int64_t> augmented_shape(const TensorView& images, const AugmentRequest& request) {
  return warped_shape(images, request.size);
}

void check_augment(const char* op, const AugmentRequest& request, const AugmentTensors& tensors) {
  check_request(op, request, tensors);
  if (!tensors.out.present) return;
  check_warped(op, tensors.out, augmented_shape(tensors.images, request), request.dtype);
  const Named<TensorView> inputs[] = {{"images", tensors.images},
                                      {"matrices", tensors.matrices},
                                      {"mean", tensors.mean},
                                      {"std", tensors.std}};
  for (const auto& input : inputs) check_apart(op, tensors.out, input.name, input.value);
}

AugmentArgs augment_args(const AugmentRequest& request, const AugmentTensors& tensors) {
  AugmentArgs args = {.warp = warp_of(request, tensors),
                      .in_dtype = tensors.images.dtype,
                      .out_dtype = request.dtype,
                      .in = tensors.images.data,
                      .out = tensors.out.data,
                      .in_strides = strides_of(tensors.images),
                      .out_strides = strides_of(tensors.out),
                      .fill = {},
                      .normalization = normalization(request, tensors)};
  for (std::size_t c = 0; c < kMostImageChannels; ++c) {
    args.fill[c] = element_of(tensors.images.dtype, request.fill[c < request.fill.size() ? c : 0]);
  }
  return args;
}

void check_augment_gradient(const char* op, const AugmentRequest& request,
                            const AugmentTensors& tensors, const TensorView& gradient) {
  check_request(op, request, tensors);
  if (!is_floating(tensors.images.dtype) || !is_floating(gradient.dtype)) {
    throw_type_error(op, ": there is no gradient of uint8");
  }
  check_beside(op, "the gradient", gradient, "images", tensors.images);
  const std::vector<std::int64_t> shape = augmented_shape(tensors.images, request);
  if (gradient.dims != 4 || !std::equal(shape.begin(), shape.end(), gradient.shape)) {
    throw_value_error(op, ": the gradient has shape ", shape_text(gradient.shape, gradient.dims),
                      "; ", shape_text(shape.data(), 4), " is needed");
  }
}

AugmentGradientArgs augment_gradient_args(const AugmentRequest& request,
                                          const AugmentTensors& tensors,
                                          const TensorView& gradient) {
  return {.warp = warp_of(request, tensors),
          .in_dtype = gradient.dtype,
          .out_dtype = tensors.images.dtype,
          .in = gradient.data,
          .out = tensors.out.data,
          .in_strides = strides_of(gradient),
          .out_strides = strides_of(tensors.out),
          .normalization = normalization(request, tensors)};
}

}  // namespace strop
