#pragma once

#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>
#include <vector>

#include "core/torch/call.h"
#include "kernels/argument_error.h"
#include "torch/tensor_arguments.h"

namespace strop {

// Reads the stack that torch hands to a boxed kernel, in the order of the schema.
class Stack {
 public:
  explicit Stack(StableIValue* values) : next_(values) {}

  template <class T>
  T take() {
    return torch::stable::detail::to<T>(*next_++);
  }

 private:
  StableIValue* next_;
};

}  // namespace strop
