#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "linear/layout.h"

namespace strop::linear::cpu {

// Multiply-adds that are worth waking a thread for.
inline constexpr std::int64_t kGrain = 1 << 16;

// Memory that a thread keeps from one call to the next, up to kMaxKept bytes. What the system
// gives anew it clears first, a page at a time, which takes as long as some products. It grows to
// what was wanted at once.
class KeptMemory {
 public:
  static constexpr std::int64_t kMaxKept = std::int64_t{8} << 20;

  static KeptMemory& of_thread() {
    static thread_local KeptMemory memory;
    return memory;
  }
  // nullptr: there is not enough left.
  std::uint8_t* take(std::int64_t bytes) {
    const std::int64_t place = taken_;
    taken_ += bytes;
    wanted_ = wanted_ < taken_ ? taken_ : wanted_;
    return taken_ <= size_ ? bytes_.get() + place : nullptr;
  }
  // In the reverse order.
  void give_back(std::int64_t bytes) {
    taken_ -= bytes;
    if (taken_ > 0) return;
    if (wanted_ > size_ && wanted_ <= kMaxKept) {
      bytes_.reset(new (std::nothrow) std::uint8_t[static_cast<std::size_t>(wanted_)]);
      size_ = bytes_ == nullptr ? 0 : wanted_;
    }
    wanted_ = 0;
  }

 private:
  std::unique_ptr<std::uint8_t[]> bytes_;
  std::int64_t size_ = 0, taken_ = 0, wanted_ = 0;
};

// Uninitialised memory, on a boundary of cache lines.
class Scratch {
 public:
  explicit Scratch(std::int64_t bytes)
      : memory_(KeptMemory::of_thread()), size_((bytes + 127) / 64 * 64), at_(memory_.take(size_)) {
    if (at_ != nullptr) return;
    own_.reset(new (std::nothrow) std::uint8_t[static_cast<std::size_t>(size_)]);
    if (own_ == nullptr) {
      memory_.give_back(size_);
      throw std::bad_alloc();
    }
    at_ = own_.get();
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    own_.reset();
    memory_.give_back(size_);
  }

  template <class T>
  T* at() const {
    const auto place = reinterpret_cast<std::uintptr_t>(at_);
    return reinterpret_cast<T*>((place + 63) / 64 * 64);
  }

 private:
  KeptMemory& memory_;
  std::int64_t size_;
  std::uint8_t* at_;
  std::unique_ptr<std::uint8_t[]> own_;
};

}  // namespace strop::linear::cpu
