#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_host/fiber.h"
#include "cuda_host/kernel_side.h"
#include "cuda_host/shadow.h"

namespace strop::cuda_host {

// Whether accesses are seen, and so can be checked: not where coverage is measured.
#ifdef STROP_CUDA_HOST_UNCHECKED
inline constexpr bool kChecked = false;
#else
inline constexpr bool kChecked = true;
#endif

// A fault of a kernel: what, by which thread, where.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Runs a kernel's grid on the CPU: a block after the other, the threads of a block as fibers, each
// of which runs until it has to wait. Blocks, warps and lanes take turns in an order that a seed
// shuffles. Throws the first Fault; one grid runs at a time.
class Grid {
 public:
  static Grid& instance();

  Memory& memory() { return memory_; }
  // Shuffles the launches that follow; each has an order of its own.
  void seed(std::uint64_t value) { random_.seed(value); }

  // Calls body(data) as every thread.
  void run(Size3 grid, Size3 block, void (*body)(const void*), const void* data);

  bool running() const { return current_ != nullptr; }
  // Whether a kernel's own code is running. This code shares inline functions of the standard
  // library with kernels' host code, and the linker may have kept their instrumented bodies.
  bool watching() const { return current_ != nullptr && !inside_; }
  // What a thread does.
  void access(const void* at, std::size_t bytes, Kind kind, CodeAddress code);
  void barrier(Place place);
  std::uint64_t together(const CollectiveCall& call, std::uint64_t value);
  bool hold_copy(const Copy& copy);
  void commit_copies();
  Copy take_copy(int groups);
  // Ends the launch, by a Fault; does not return while a thread is running.
  void fail(const std::string& what);
  // Undefined behaviour of a kernel or of its host code, which nothing can be thrown through: the
  // next throw_pending() throws.
  void undefined(const char* what, Place place);
  void throw_pending();

 private:
  enum class State : std::uint8_t { kReady, kAtBarrier, kTogether, kDone };

  struct Thread {
    Fiber fiber;
    std::byte* stack;
    Size3 index;
    State state;
    Place place;
    CollectiveCall call;
    std::uint64_t given;
    std::uint64_t taken;
  };
  // What a thread has under way; those after the last commit are of no group yet.
  struct Copies {
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
  };
  struct Warp {
    std::uint32_t ready;  // lanes that can go on
    std::uint32_t alive;
    std::uint32_t arrived;  // lanes that wait for others of their mask
    std::uint32_t tick;
    std::uint32_t seen[kWarp][kWarp];
  };

  // While this code runs on behalf of a thread.
  class Inside {
   public:
    explicit Inside(Grid& grid) : grid_(grid) { grid_.inside_ = true; }
    ~Inside() { grid_.inside_ = false; }

   private:
    Grid& grid_;
  };

  static void enter();
  void start_block(Size3 index);
  void finish_thread();
  void wait();
  Thread* next();
  void switch_to(Thread* thread);
  void explain_deadlock();
  void check_call(const Warp& warp, const CollectiveCall& call);
  bool all_came_for(const CollectiveCall& call, std::uint32_t lanes);
  void complete(Warp& warp, const CollectiveCall& call);
  std::uint64_t shuffled(const CollectiveCall& call, int lane, std::size_t first);
  void join(Warp& warp, std::uint32_t mask);
  std::size_t number_of(const Thread* thread) const { return thread - threads_.data(); }
  std::string name_of(const Thread* thread) const;
  std::string describe_outside(std::uintptr_t address) const;
  Actor actor() const;
  void reserve(std::size_t threads);

  Memory memory_;
  std::mt19937_64 random_;
  std::vector<Thread> threads_;
  std::vector<Copies> copies_;  // of the threads
  std::vector<Warp> warps_;
  std::vector<std::size_t> warp_order_;
  std::unique_ptr<std::byte[]> stacks_;
  std::size_t stacks_held_ = 0;

  Fiber host_;
  Thread* current_ = nullptr;
  bool inside_ = false;
  std::size_t count_ = 0;  // threads of a block
  std::size_t alive_ = 0;
  std::size_t at_barrier_ = 0;
  Place barrier_place_{};
  bool backwards_ = false;
  std::uint32_t block_number_ = 0;
  std::uint32_t first_block_ = 1;
  std::uint32_t epoch_ = 0;
  void (*body_)(const void*) = nullptr;
  const void* data_ = nullptr;
  std::string fault_;
};

}  // namespace strop::cuda_host
