#pragma once

#include <cstdint>
#include <type_traits>

namespace strop {

// Who runs the pieces of a job. Kernels are single-threaded functions over a range of work items;
// the caller (the torch skin with torch's own thread pool, the numpy bindings with none) brings the
// threads. No result depends on how the range is cut.
struct Parallel {
  using Body = void (*)(std::int64_t begin, std::int64_t end, void* context);

  int threads = 1;
  void (*run)(std::int64_t count, std::int64_t grain, Body body, void* context) = nullptr;

  // Calls function(begin, end) on disjoint ranges that cover [0, count), each of `grain` items or
  // more where several threads share them.
  template <class Function>
  void for_range(std::int64_t count, std::int64_t grain, Function&& function) const {
    if (run == nullptr || threads <= 1 || count <= grain) {
      if (count > 0) function(std::int64_t{0}, count);
      return;
    }
    using Plain = std::remove_reference_t<Function>;
    run(
        count, grain,
        [](std::int64_t begin, std::int64_t end, void* context) {
          (*static_cast<Plain*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&function)));
  }
};

}  // namespace strop
