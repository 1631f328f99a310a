#include "cuda_host/fiber.h"

#include <cstdint>

namespace strop::cuda_host {

#if defined(__x86_64__)

// (rdi: where to keep the old stack pointer, rsi: the new one)
asm(R"(
.text
.type strop_switch_stack, @function
strop_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size strop_switch_stack, .-strop_switch_stack
)");

namespace {
// What switching pops: six registers and the address to return to; then a place for the return
// address that `entry` believes it was called with, which keeps the stack aligned.
constexpr int kSaved = 8;
constexpr int kReturn = 6;
}  // namespace

#elif defined(__aarch64__)

asm(R"(
.text
.type strop_switch_stack, %function
strop_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size strop_switch_stack, .-strop_switch_stack
)");

namespace {
constexpr int kSaved = 20;
constexpr int kReturn = 11;  // x30
}  // namespace

#endif

#ifdef STROP_UCONTEXT

void prepare(Fiber& fiber, std::byte* stack, std::size_t bytes, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
}

void switch_fiber(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#else

extern "C" void strop_switch_stack(void** from, void* to) asm("strop_switch_stack");

void prepare(Fiber& fiber, std::byte* stack, std::size_t bytes, void (*entry)()) {
  const auto top = (reinterpret_cast<std::uintptr_t>(stack) + bytes) & ~std::uintptr_t{15};
  auto* const saved = reinterpret_cast<void**>(top) - kSaved;
  for (int i = 0; i < kSaved; ++i) saved[i] = nullptr;
  saved[kReturn] = reinterpret_cast<void*>(entry);
  fiber.stack_pointer = saved;
}

void switch_fiber(Fiber& from, Fiber& to) {
  strop_switch_stack(&from.stack_pointer, to.stack_pointer);
}

#endif

}  // namespace strop::cuda_host
