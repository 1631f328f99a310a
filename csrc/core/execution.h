#pragma once

#include "core/isa.h"
#include "core/parallel.h"

namespace strop {

// Where an op runs is the second argument of its run(): ExecutionOptions for a CPU's kernels,
// Launch for a GPU's, Oracle for the reference loops.

// Below this an output is left to the cache: somebody may read it soon. Above, streaming is faster.
inline constexpr std::int64_t kStreamBytes = std::int64_t{4} << 20;

// How a CPU carries a call out; no result depends on it, but for a kernel's faults.
struct ExecutionOptions {
  Parallel parallel = {};
  Isa isa = Isa::kActive;
  std::int64_t stream_bytes = kStreamBytes;
};

struct Oracle {};

struct Launch;

}  // namespace strop
