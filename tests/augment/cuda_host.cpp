// The kernels of augmentation over numpy arrays, as the bindings of the CPU's have them.

#include "augment/numpy/ops.h"
#include "cuda_host/device_arrays.h"
#include "cuda_host/module.h"

namespace strop::cuda_host {
namespace {

using namespace strop::augment;

// Rows and columns of one side of a warp.
struct Side {
  std::int64_t rows;
  std::int64_t columns;
};

Side input_of(const Warp& warp) { return {warp.in_height, warp.in_width}; }
Side output_of(const Warp& warp) { return {warp.out_height, warp.out_width}; }

std::size_t item_of(DType dtype) { return static_cast<std::size_t>(dtype_size(dtype)); }

class Images {
 public:
  explicit Images(Warp& warp) : warp_(warp) {
    const MatrixStrides& s = warp.matrix_strides;
    arrays_.add({"matrices",
                 warp.matrices,
                 item_of(warp.matrix_dtype),
                 {{warp.batch, s.image}, {2, s.row}, {3, s.column}},
                 Use::kInput});
  }

  void add(const char* name, const void* data, std::size_t item, Side side,
           const ImageStrides& strides, Use use) {
    arrays_.add({name,
                 data,
                 item,
                 {{warp_.batch, strides.image},
                  {warp_.channels, strides.channel},
                  {side.rows, strides.row},
                  {side.columns, strides.column}},
                 use});
  }

  void add(const Normalization& n) {
    const auto numbers = [&](const char* name, const float* data, std::int64_t stride) {
      const std::int64_t count = stride == 0 ? 1 : warp_.channels;
      arrays_.add({name, data, sizeof(float), {{count, stride}}, Use::kInput});
    };
    numbers("mean", n.mean_data, n.mean_stride);
    numbers("std", n.std_data, n.std_stride);
  }

  template <class Args>
  void run(Args& args, const Launch& on) {
    arrays_.upload();
    warp_.matrices = arrays_.at(warp_.matrices);
    args.in = arrays_.at(args.in);
    args.out = arrays_.at(args.out);
    if constexpr (requires { args.normalization; }) {
      args.normalization.mean_data = arrays_.at(args.normalization.mean_data);
      args.normalization.std_data = arrays_.at(args.normalization.std_data);
    }
    augment::run(args, on);
    arrays_.download();
  }

 private:
  DeviceArrays arrays_;
  Warp& warp_;
};

void run_on_host(AugmentArgs args, const Launch& on) {
  Images images(args.warp);
  images.add("images", args.in, item_of(args.in_dtype), input_of(args.warp), args.in_strides,
             Use::kInput);
  images.add("out", args.out, item_of(args.out_dtype), output_of(args.warp), args.out_strides,
             Use::kOutput);
  images.add(args.normalization);
  images.run(args, on);
}

void run_on_host(AugmentGradientArgs args, const Launch& on) {
  Images images(args.warp);
  images.add("gradient", args.in, item_of(args.in_dtype), output_of(args.warp), args.in_strides,
             Use::kInput);
  images.add("out", args.out, item_of(args.out_dtype), input_of(args.warp), args.out_strides,
             Use::kOutput);
  images.add(args.normalization);
  images.run(args, on);
}

void run_on_host(WarpMasksArgs args, const Launch& on) {
  Images images(args.warp);
  const auto item = static_cast<std::size_t>(args.item);
  images.add("masks", args.in, item, input_of(args.warp), args.in_strides, Use::kInput);
  images.add("out", args.out, item, output_of(args.warp), args.out_strides, Use::kOutput);
  images.run(args, on);
}

constexpr auto kRun = [](const auto& args, const Launch& on) { run_on_host(args, on); };

}  // namespace

void bind_augment(pybind11::module_& module) {
  bind(module, kAugmentArrayOps<OnHost<kRun>>, "by the CUDA kernels on the host");
}

}  // namespace strop::cuda_host
