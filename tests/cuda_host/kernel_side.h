#pragma once

// What a kernel that runs on the host calls, through the headers under include/.

#include <cstddef>
#include <cstdint>

// Not instrumented: code that runs as a thread, and touches what is not a kernel's to touch.
#define STROP_UNCHECKED __attribute__((no_sanitize("thread"), noinline))

namespace strop::cuda_host {

// A place in the source that lanes have to come to together.
struct Place {
  const char* file;
  unsigned line;

  bool operator==(const Place&) const = default;
};

struct Size3 {
  unsigned x, y, z;

  std::size_t count() const { return std::size_t{x} * y * z; }
};

// What the lanes of a warp do together.
enum class Collective : std::uint8_t {
  kShuffleIndex,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kSync,
};

struct CollectiveCall {
  Collective what;
  std::uint32_t mask;
  int operand;  // of a shuffle: lane, distance or pattern
  int width;
  Place place;
};

struct LaunchCall {
  Size3 grid;
  Size3 block;
  std::size_t dynamic_shared;  // bytes
  const void* kernel;
  void (*body)(const void*);  // of a thread
  const void* data;
};

void barrier(Place place);
std::uint64_t together(const CollectiveCall& call, std::uint64_t value);
void atomic(const void* at, std::size_t bytes);
void fill(void* to, int value, std::size_t bytes);

// A copy of four bytes to shared memory, of which `bytes` are read. It happens at any time between
// where it is asked for and where the thread waits for it: at one of both, by a draw. The
// instrumented code that asks or waits makes it.
struct Copy {
  void* to;
  const void* from;
  int bytes;
};
bool hold_copy(const Copy& copy);  // false: it is to be made now
void commit_copies();
// The next one to make where `groups` may be left; `to` is null if there is none.
Copy take_copy(int groups);
// The launch's dynamic shared memory.
std::byte* dynamic_shared();
// Lets a kernel have more than 48 KiB of it; false for more than a GPU has.
bool allow_shared(const void* kernel, int bytes);
// False where the configuration is not one that a GPU takes.
bool run(const LaunchCall& call);

}  // namespace strop::cuda_host
