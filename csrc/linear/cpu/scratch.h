#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "linear/layout.h"

namespace strop::linear::cpu {

// Multiply-adds that are worth waking a thread for.
inline constexpr std::int64_t kGrain = 1 << 16;

// Uninitialised memory, on a boundary of cache lines.
class Scratch {
 public:
  explicit Scratch(std::int64_t bytes)
      : bytes_(new std::uint8_t[static_cast<std::size_t>(bytes) + 64]) {}

  template <class T>
  T* at() const {
    const auto place = reinterpret_cast<std::uintptr_t>(bytes_.get());
    return reinterpret_cast<T*>((place + 63) / 64 * 64);
  }

 private:
  std::unique_ptr<std::uint8_t[]> bytes_;
};

// The bias as float32, which is what kernels add.
inline std::vector<float> widened_bias(const LinearRows& args, std::int64_t count) {
  std::vector<float> bias(static_cast<std::size_t>(count));
  by_narrow_dtype(args.bias_dtype, [&]<class T>() {
    const T* const from = static_cast<const T*>(args.bias);
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = to_float(from[i]);
  });
  return bias;
}

// Rows [first, first + count) of a product.
template <class Args>
Args rows_of(const Args& args, std::int64_t first, std::int64_t count) {
  Args part = args;
  part.rows = count;
  const std::int64_t item = dtype_size(args.dtype);
  part.x = static_cast<const std::uint8_t*>(args.x) + first * args.x_stride * item;
  part.y = static_cast<std::uint8_t*>(args.y) + first * args.y_stride * item;
  return part;
}

}  // namespace strop::linear::cpu
