#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strop {

// Note [Failed allocations]
// What torch raises loses its kind on the way through the stable ABI, and its text below torch
// 2.13. So an op that gets no memory leaves behind what it asked for, in its thread, as an
// ArgumentError leaves its kind. The Python side asks torch for the same once more: that raises
// torch's own error, which on a GPU is torch.OutOfMemoryError.
struct FailedAllocation {
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> stride;
  int item = 1;      // bytes of an element
  int gpu = -1;      // its number; -1: the processor's memory
  std::string text;  // of what the op raised
};

void leave_failed_allocation(FailedAllocation failed);

// The last one of this thread, forgotten by asking; the text is empty if there is none.
FailedAllocation take_failed_allocation();

}  // namespace strop
