#include "quantize/gradient_arguments.h"

#include <algorithm>

#include "core/argument_error.h"
#include "core/check.h"

namespace strop::quantize {
namespace {

void check_mask(const char* op, const TensorView& mask, const TensorView& of) {
  check_dtype(op, {"mask", mask}, DType::kUInt8);
  const std::int64_t bytes = mask_bytes(of.numel());
  if (mask.dims != 1 || mask.shape[0] != bytes || !is_contiguous(mask)) {
    throw_value_error(op, ": mask has shape ", shape_text(mask.shape, mask.dims), "; ", bytes,
                      " consecutive bytes are needed");
  }
  if (mask.device != of.device) {
    throw_value_error(op, ": mask is on another device than the tensor it is of");
  }
}

}  // namespace

void check_fake_quantize_mask(const char* op, const FakeQuantizeTensors& t,
                              const TensorView& mask) {
  if (!t.scale.present) throw_value_error(op, ": a mask needs a scale");
  if (!is_dense(t.output)) throw_value_error(op, ": out is not dense, which a mask needs");
  check_mask(op, mask, t.output);
}

void check_masked_gradient(const char* op, const MaskedGradientTensors& t) {
  if (!is_floating(t.gradient.dtype)) {
    throw_type_error(op, ": gradient has dtype ", dtype_name(t.gradient.dtype),
                     "; float32, bfloat16, float16 or float64 is needed");
  }
  if (!is_dense(t.gradient)) throw_value_error(op, ": gradient is not dense");
  check_mask(op, t.mask, t.gradient);
  if (!t.output.present) return;
  const Argument out = {"out", t.output}, gradient = {"gradient", t.gradient};
  check_like(op, out, gradient);
  for (int d = 0; d < t.output.dims; ++d) {
    if (t.output.shape[d] > 1 && t.output.stride[d] != t.gradient.stride[d]) {
      throw_value_error(op, ": out has other strides than gradient");
    }
  }
  check_same_or_apart(op, out, gradient);
  check_apart(op, out, {"mask", t.mask});
}

MaskedGradientArgs masked_gradient_args(const MaskedGradientTensors& t) {
  return {.item_bytes = dtype_size(t.gradient.dtype),
          .count = t.gradient.numel(),
          .gradient = t.gradient.data,
          .mask = static_cast<const std::uint8_t*>(t.mask.data),
          .output = t.output.data};
}

void check_learned_gradient(const char* op, const QuantizeSpec& spec,
                            const LearnedGradientTensors& t, bool has_seed) {
  check_fake_quantize(op, spec, t.forward, has_seed);
  if (!t.forward.scale.present) throw_value_error(op, ": a learned scale has to be given");
  const Argument input = {"input", t.forward.input}, gradient = {"gradient", t.gradient};
  check_like(op, gradient, input);
  check_contiguous(op, input);
  check_contiguous(op, gradient);
  check_contiguous(op, {"scale", t.forward.scale});
  if (t.forward.zero_point.present) check_contiguous(op, {"zero_point", t.forward.zero_point});
}

SumTiles sum_tiles(const FakeQuantizeArgs& args) {
  // A few L1; and so few tiles that their sums take little memory.
  constexpr std::int64_t kElements = 16384, kMaxRowPieces = 64;
  const QuantizeDim& inner = args.dim[args.dims - 1];
  std::int64_t columns = inner.block < kRunLanes ? kMaxSumBlocks : kElements;
  if (inner.block < columns) {
    columns = std::min(columns / inner.block, kMaxSumBlocks) * inner.block;
  }
  columns = std::min(columns, inner.size);
  const std::int64_t all = args.slab_rows();
  const std::int64_t rows = std::max(kElements / columns, divide_up(all, kMaxRowPieces));
  return {.shape = tile_shape(args, std::clamp<std::int64_t>(rows, 1, all), columns),
          .blocks_held = std::min(divide_up(columns, inner.block) + 1, inner.blocks())};
}

LearnedGradientArgs learned_gradient_args(const QuantizeSpec& spec, const LearnedGradientTensors& t,
                                          std::uint64_t seed, double factor) {
  return {.forward = fake_quantize_args(spec, t.forward, seed),
          .gradient = t.gradient.data,
          .factor = factor,
          .scale_gradient = t.scale_gradient.data,
          .zero_gradient = t.zero_gradient.present ? t.zero_gradient.data : nullptr,
          .scale_count = t.forward.scale.numel(),
          .zero_count = t.zero_gradient.present ? t.zero_gradient.numel() : 0};
}

}  // namespace strop::quantize
