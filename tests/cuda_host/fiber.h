#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define STROP_UCONTEXT 1
#endif

namespace strop::cuda_host {

// A stack to run on. Switching saves what a function call does not: 30 ns, where ucontext, which
// also asks the kernel for the signal mask, takes ten times as long.
struct Fiber {
#ifdef STROP_UCONTEXT
  ucontext_t context;
#else
  void* stack_pointer;
#endif
};

// Makes a fiber that begins at `entry`, which must not return, on the given stack.
void prepare(Fiber& fiber, std::byte* stack, std::size_t bytes, void (*entry)());

// Leaves the running fiber at `from`, goes on where `to` was left.
void switch_fiber(Fiber& from, Fiber& to);

}  // namespace strop::cuda_host
