#include "quantize/gradient.h"

#include <cstring>
#include <optional>
#include <vector>

#include "quantize/reference/choice.h"
#include "quantize/reference/fake_quantize.h"

namespace strop::quantize::reference {
namespace {

// Storage is the element type, T the type of the forward arithmetic.
template <class T, class Storage>
class LearnedSums {
 public:
  explicit LearnedSums(const LearnedGradientArgs& args)
      : args_(args),
        scale_(static_cast<std::size_t>(args.scale_count), 0.0),
        zero_(static_cast<std::size_t>(args.zero_count), 0.0) {
    if (args.forward.rule.grid != Grid::kInteger) grid_.emplace(args.forward.rule);
  }

  void add_block(const Block& block) {
    const FakeQuantizeArgs& args = args_.forward;
    const auto* input = static_cast<const Storage*>(args.input);
    const auto* gradient = static_cast<const Storage*>(args_.gradient);
    auto* output = static_cast<Storage*>(args.output);
    const Parameters<T> p = given_parameters<T>(args, block);
    const bool floating = args.zero_point_is_floating();
    const T inverse = T(1) / p.scale;
    const T low = static_cast<T>(args.rule.quant_min), high = static_cast<T>(args.rule.quant_max);
    double of_scale = 0, of_zero = 0;
    for_each_element(args, block, [&](std::int64_t at, std::int64_t, std::int64_t index) {
      const T u = random_number<T>(args, index);
      const T x = to_float(input[at]);
      const double dy = static_cast<double>(to_float(gradient[at]));
      if (grid_) {
        const T v = x * inverse;
        const T slope = grid_->nearest(v, u) - (grid_->in_range(v) ? v : T(0));
        output[at] = grid_->in_range(v) ? gradient[at] : FromFloat<Storage>::call(0);
        of_scale += dy * static_cast<double>(slope);
        return;
      }
      const T code = floating ? rounded(args.rule.rounding, x * inverse + p.zero_point, u)
                              : rounded(args.rule.rounding, x * inverse, u) + p.zero_point;
      if (code >= low && code <= high) {
        output[at] = gradient[at];
        of_scale += dy * static_cast<double>((code - p.zero_point) - x * inverse);
      } else {
        output[at] = FromFloat<Storage>::call(0);
        const T bound = code < low ? low : code > high ? high : code;  // or NaN
        of_scale += dy * static_cast<double>(bound - p.zero_point);
        of_zero -= dy * static_cast<double>(p.scale);
      }
    });
    std::int64_t scale = 0, zero = 0;
    for (int d = 0; d < args.dims; ++d) {
      scale += block.at[d] * args.dim[d].scale;
      zero += block.at[d] * args.dim[d].zero_point;
    }
    scale_[static_cast<std::size_t>(scale)] += of_scale;
    if (args_.zero_gradient != nullptr) zero_[static_cast<std::size_t>(zero)] += of_zero;
  }

  void write() const {
    for (std::size_t i = 0; i < scale_.size(); ++i) {
      static_cast<T*>(args_.scale_gradient)[i] = static_cast<T>(scale_[i] * args_.factor);
    }
    if (args_.zero_gradient == nullptr) return;
    for (std::size_t i = 0; i < zero_.size(); ++i) {
      static_cast<T*>(args_.zero_gradient)[i] = static_cast<T>(zero_[i] * args_.factor);
    }
  }

 private:
  const LearnedGradientArgs& args_;
  std::vector<double> scale_;
  std::vector<double> zero_;
  std::optional<ValueGrid> grid_;  // of a format that is no integer
};

template <class T, class Storage>
void learned(const LearnedGradientArgs& args) {
  LearnedSums<T, Storage> sums(args);
  const std::int64_t blocks = block_count(args.forward);
  for (std::int64_t i = 0; i < blocks; ++i) sums.add_block(block_at(args.forward, i));
  sums.write();
}

}  // namespace
}  // namespace strop::quantize::reference

namespace strop::quantize {

void run(const MaskedGradientArgs& args, Oracle) {
  const auto bytes = static_cast<std::size_t>(args.item_bytes);
  for (std::int64_t i = 0; i < args.count; ++i) {
    const bool kept = args.mask[i / 8] >> i % 8 & 1;
    char* const to = static_cast<char*>(args.output) + i * args.item_bytes;
    if (kept) {
      std::memmove(to, static_cast<const char*>(args.gradient) + i * args.item_bytes, bytes);
    } else {
      std::memset(to, 0, bytes);
    }
  }
}

void run(const LearnedGradientArgs& args, Oracle) {
  reference::by_arithmetic(args.forward.dtype,
                           [&]<class T, class Storage>() { reference::learned<T, Storage>(args); });
}

}  // namespace strop::quantize
