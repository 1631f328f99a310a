#pragma once

// Floats for the time of a call, zero and aligned to cache lines. Compiled once per instruction
// set.

#include <new>

#include "cpu/vector.h"

namespace strop::cpu::STROP_ISA {

class Scratch {
 public:
  explicit Scratch(std::int64_t floats)
      : data_(static_cast<float*>(::operator new(static_cast<std::size_t>(floats) * sizeof(float),
                                                 std::align_val_t{64}))) {
    std::memset(data_, 0, static_cast<std::size_t>(floats) * sizeof(float));
  }
  ~Scratch() { ::operator delete(data_, std::align_val_t{64}); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

}  // namespace strop::cpu::STROP_ISA
