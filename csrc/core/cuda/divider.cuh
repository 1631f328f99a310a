#pragma once

// Division by a number that is known before a launch.

#include <cuda_runtime.h>

#include <cstdint>

namespace strop::cuda {

// For n below 2^bits and d at least 1: n / d = n * m >> (bits + shift), where 2^shift is the power
// of two that is not below d, and m = 2^(bits + shift) / d, rounded up (Granlund, Montgomery,
// "Division by invariant integers using multiplication", 1994). Three instructions for n below
// 2^31 and a dozen beyond, where a division takes twenty and a hundred.
class Divider {
 public:
  Divider() = default;
  explicit Divider(std::int64_t divisor) : divisor_(divisor) {
    __extension__ using Wide = unsigned __int128;
    const auto d = static_cast<std::uint64_t>(divisor);
    while ((std::uint64_t{1} << shift_) < d) ++shift_;
    const auto multiplier = [&](int bits) {
      return static_cast<std::uint64_t>(((Wide{1} << (bits + shift_)) + d - 1) / d);
    };
    if (shift_ <= 31) narrow_ = static_cast<std::uint32_t>(multiplier(31));
    if (shift_ > 0) wide_ = multiplier(63);
  }

  __host__ __device__ std::int64_t divisor() const { return divisor_; }

  // n is not negative.
  __device__ __forceinline__ std::int64_t quotient(std::int64_t n) const {
    if (n >> 31 == 0) {  // by more than 2^31: shifted out, if not 0 at once
      const std::uint64_t product = std::uint64_t{static_cast<std::uint32_t>(n)} * narrow_;
      return static_cast<std::int64_t>(product >> (31 + (shift_ & 31)));
    }
    if (shift_ == 0) return n;
    return static_cast<std::int64_t>(__umul64hi(static_cast<std::uint64_t>(n), wide_) >>
                                     (shift_ - 1));
  }

 private:
  std::int64_t divisor_ = 1;
  std::uint64_t wide_ = 0;
  std::uint32_t narrow_ = 0;  // 0: a quotient of 0
  int shift_ = 0;
};

}  // namespace strop::cuda
