#include "augment/arguments.h"

#include <cmath>

#include "augment/warp_arguments.h"
#include "core/argument_error.h"

namespace strop::augment {
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

// What others call ours: OpenCV, numpy and torchvision, torch, kornia, TensorFlow, as `plain` has
// it. Not those of scipy that only have another hyphen.
constexpr Named<const char*> kFillModesElsewhere[] = {
    {"grid_constant", "'constant'"},
    {"grid_mirror", "'reflect'"},
    {"grid_nearest", "'nearest'"},
    {"border_constant", "'constant'"},
    {"zeros", "'constant'"},
    {"zero", "'constant'"},
    {"fill", "'constant'"},
    {"border", "'nearest'"},
    {"border_replicate", "'nearest'"},
    {"replicate", "'nearest'"},
    {"replication", "'nearest'"},
    {"edge", "'nearest'"},
    {"clamp", "'nearest'"},
    {"symmetric", "'reflect'"},
    {"border_reflect", "'reflect'"},
    {"reflection", "'reflect', or with align_corners=True 'mirror'"},
    {"border_reflect_101", "'mirror'"},
    {"border_reflect101", "'mirror'"},
    {"border_default", "'mirror'"},
    {"reflect_101", "'mirror'"},
    {"reflect101", "'mirror'"},
    {"border_wrap", "'grid_wrap'"},
    {"circular", "'grid_wrap'"},
    {"periodic", "'grid_wrap'"}};

// A name in small letters, with underscores, without a module before it.
std::string plain(const std::string& name) {
  std::string result = name.substr(name.rfind('.') + 1);
  for (char& letter : result) {
    if (letter == '-' || letter == ' ') letter = '_';
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return result;
}

// Which of ours a name of a fill mode may mean, or nothing.
std::string fill_mode_hint(const std::string& name) {
  const std::string found = plain(name);
  for (const auto& each : kFillModes) {
    if (found == each.name) return "; that is '" + found + "' here";
  }
  for (const auto& each : kFillModesElsewhere) {
    if (found == each.name) return std::string("; that is ") + each.value + " here";
  }
  return "";
}

template <class Value, std::size_t kCount>
Value named(const char* op, const char* what, const Named<Value> (&all)[kCount],
            const std::string& name) {
  std::string known, hint;
  for (const Named<Value>& each : all) {
    if (name == each.name) return each.value;
    known += (known.empty() ? "'" : ", '") + std::string(each.name) + "'";
  }
  if constexpr (std::is_same_v<Value, FillMode>) hint = fill_mode_hint(name);
  throw_value_error(op, ": ", what, " is '", name, "'; one of ", known, " is needed", hint);
}

void check_count(const char* op, const char* name, std::size_t count, std::int64_t channels) {
  if (count == 1 || static_cast<std::int64_t>(count) == channels) return;
  throw_value_error(op, ": ", name, " has ", count, " values for images of ", channels,
                    channels == 1 ? " channel; one is needed"
                                  : " channels; one for each is needed, or one for all");
}

// A number as images of a dtype have it.
double element_of(DType dtype, double value) {
  if (dtype == DType::kUInt8) return std::nearbyint(value);
  return by_dtype(dtype, [&]<class T>() -> double {
    return to_float(FromFloat<T>::call(static_cast<decltype(to_float(T{}))>(value)));
  });
}

void check_fill(const char* op, const AugmentRequest& request, const TensorView& images) {
  check_count(op, "fill", request.fill.size(), images.shape[1]);
  for (const double value : request.fill) {
    if (images.dtype != DType::kUInt8) {
      if (std::isfinite(element_of(images.dtype, value)) || !std::isfinite(value)) continue;
      throw_fill_error(op, images.dtype, value);
    }
    if (value >= 0 && value <= 255) continue;
    throw_value_error(op, ": fill is ", value, "; uint8 images have values from 0 to 255");
  }
}

void check_numbers(const char* op, const AugmentRequest& request, std::int64_t channels) {
  if (!request.mean.empty()) check_count(op, "mean", request.mean.size(), channels);
  if (!request.std.empty()) check_count(op, "std", request.std.size(), channels);
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
  for (std::size_t c = 0; c < kMaxImageChannels; ++c) {
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
  if (tensors.matrices.present) {
    warp.fill_mode = named("", "", kFillModes, request.fill_mode);
  }
  return warp;
}

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

// float32 in the memory of this process.
std::vector<double> numbers_in(const TensorView& tensor) {
  std::vector<double> numbers;
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    const std::int64_t at = tensor.dims == 1 ? i * tensor.stride[0] : 0;
    numbers.push_back(static_cast<const float*>(tensor.data)[at]);
  }
  return numbers;
}

bool is_readable(const TensorView& view) { return view.present && view.device <= 0; }

// mean and std become an offset and a scale, rounded to the type that computes with them. What a
// GPU has is not read: that would wait for it.
void check_normalization(const char* op, const AugmentRequest& request,
                         const AugmentTensors& tensors) {
  if (request.dtype == DType::kUInt8) return;
  const DType from = tensors.images.dtype;
  const bool wide = from == DType::kFloat64 || request.dtype == DType::kFloat64;
  const auto computed = [wide](double value) { return wide ? value : static_cast<float>(value); };
  const char* const type = wide ? "float64" : "float32";
  const Normalization n = normalization(request, tensors);
  if (tensors.std.present && !is_readable(tensors.std)) return;
  for (std::int64_t c = 0; c < tensors.images.shape[1]; ++c) {
    const double unit = from == DType::kUInt8 ? 255.0 * kMixedOne : 1.0, std = n.std_of(c);
    const double scale = computed(1 / (unit * std));
    if (!std::isfinite(scale) || scale == 0) {
      throw_value_error(op, ": std is ", std, "; its inverse must be finite and not 0 in ", type);
    }
    if (tensors.mean.present && !is_readable(tensors.mean)) continue;
    if (std::isfinite(computed(-n.mean_of(c) / std))) continue;
    throw_value_error(op, ": mean is ", n.mean_of(c), " and std ", std,
                      "; mean / std must be finite in ", type);
  }
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
  check_mean(op, request.mean);
  check_std(op, request.std);
  if (is_readable(tensors.mean)) check_mean(op, numbers_in(tensors.mean));
  if (is_readable(tensors.std)) check_std(op, numbers_in(tensors.std));
  check_normalization(op, request, tensors);
}

}  // namespace

std::vector<std::int64_t> augmented_shape(const TensorView& images, const AugmentRequest& request) {
  return warped_shape(images, request.size);
}

void check_augment(const char* op, const AugmentRequest& request, const AugmentTensors& tensors) {
  check_request(op, request, tensors);
  if (!tensors.out.present) return;
  check_warped(op, tensors.out, augmented_shape(tensors.images, request), request.dtype,
               {{"images", tensors.images},
                {"matrices", tensors.matrices},
                {"mean", tensors.mean},
                {"std", tensors.std}});
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
  for (std::size_t c = 0; c < kMaxImageChannels; ++c) {
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

}  // namespace strop::augment
