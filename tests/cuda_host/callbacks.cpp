// What instrumented code calls. ThreadSanitizer's instrumentation calls a function at each access
// to memory, UndefinedBehaviorSanitizer's one at each violation; neither's library is linked, these
// are the functions.

#include <cstring>
#include <unordered_map>

#include "cuda_host/grid.h"

namespace strop::cuda_host {
namespace {

std::unordered_map<const void*, int> shared_limits;
std::byte* dynamic_memory = nullptr;

void check(const void* at, std::size_t bytes, Kind kind, void* code) {
  Grid& grid = Grid::instance();
  // A return address: the call is before it.
  if (kChecked && grid.watching())
    grid.access(at, bytes, kind, reinterpret_cast<CodeAddress>(code) - 1);
}

}  // namespace

void barrier(Place place) { Grid::instance().barrier(place); }

std::uint64_t together(const CollectiveCall& call, std::uint64_t value) {
  return Grid::instance().together(call, value);
}

void atomic(const void* at, std::size_t bytes) {
  check(at, bytes, Kind::kAtomic, __builtin_return_address(0));
}

void fill(void* to, int value, std::size_t bytes) {
  if (bytes == 0) return;
  Grid& grid = Grid::instance();
  const auto address = reinterpret_cast<std::uintptr_t>(to);
  Region* const region = grid.memory().find(address);
  if (region == nullptr || region->end() - address < bytes || !region->fill(address, bytes)) {
    grid.fail("cudaMemsetAsync writes where no element is (out of bounds)");
  }
  std::memset(to, value, bytes);
}

std::byte* dynamic_shared() { return dynamic_memory; }

bool allow_shared(const void* kernel, int bytes) {
  constexpr int kMost = 99 << 10;  // of the smallest GPU that strop is built for
  if (bytes > kMost) return false;
  shared_limits[kernel] = bytes;
  return true;
}

bool run(const LaunchCall& call) {
  constexpr std::size_t kThreads = 1024, kShared = std::size_t{48} << 10;
  const auto limit = shared_limits.find(call.kernel);
  const std::size_t most =
      limit == shared_limits.end() ? kShared : static_cast<std::size_t>(limit->second);
  if (call.grid.count() == 0 || call.block.count() == 0 || call.block.count() > kThreads) {
    return false;
  }
  Grid& grid = Grid::instance();
  if (call.dynamic_shared > most) {
    grid.fail("a launch asks for " + std::to_string(call.dynamic_shared) +
              " bytes of shared memory, and may have " + std::to_string(most) +
              " (cudaFuncSetAttribute)");
  }
  dynamic_memory = grid.memory().dynamic_shared(call.dynamic_shared);
  grid.run(call.grid, call.block, call.body, call.data);
  return true;
}

}  // namespace strop::cuda_host

using strop::cuda_host::check;
using strop::cuda_host::Grid;
using strop::cuda_host::Kind;

#define STROP_CALLBACK extern "C" __attribute__((visibility("hidden")))
#define STROP_CALLER __builtin_return_address(0)

#define STROP_ACCESS(size)                                                                        \
  STROP_CALLBACK void __tsan_read##size(void* at) { check(at, size, Kind::kRead, STROP_CALLER); } \
  STROP_CALLBACK void __tsan_write##size(void* at) {                                              \
    check(at, size, Kind::kWrite, STROP_CALLER);                                                  \
  }                                                                                               \
  STROP_CALLBACK void __tsan_unaligned_read##size(void* at) {                                     \
    check(at, size, Kind::kRead, STROP_CALLER);                                                   \
  }                                                                                               \
  STROP_CALLBACK void __tsan_unaligned_write##size(void* at) {                                    \
    check(at, size, Kind::kWrite, STROP_CALLER);                                                  \
  }

STROP_ACCESS(1)
STROP_ACCESS(2)
STROP_ACCESS(4)
STROP_ACCESS(8)
STROP_ACCESS(16)

STROP_CALLBACK void __tsan_read_range(void* at, std::size_t bytes) {
  check(at, bytes, Kind::kRead, STROP_CALLER);
}
STROP_CALLBACK void __tsan_write_range(void* at, std::size_t bytes) {
  check(at, bytes, Kind::kWrite, STROP_CALLER);
}
// clang's, for copies that gcc writes as accesses.
STROP_CALLBACK void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
  check(from, bytes, Kind::kRead, STROP_CALLER);
  check(to, bytes, Kind::kWrite, STROP_CALLER);
  return std::memcpy(to, from, bytes);
}
STROP_CALLBACK void* __tsan_memmove(void* to, const void* from, std::size_t bytes) {
  check(from, bytes, Kind::kRead, STROP_CALLER);
  check(to, bytes, Kind::kWrite, STROP_CALLER);
  return std::memmove(to, from, bytes);
}
STROP_CALLBACK void* __tsan_memset(void* to, int value, std::size_t bytes) {
  check(to, bytes, Kind::kWrite, STROP_CALLER);
  return std::memset(to, value, bytes);
}
STROP_CALLBACK void __tsan_init() {}
STROP_CALLBACK void __tsan_func_entry(void*) {}
STROP_CALLBACK void __tsan_func_exit() {}
STROP_CALLBACK void __tsan_vptr_update(void**, void*) {}

namespace {

// What UndefinedBehaviorSanitizer's data begins with.
struct SourceLocation {
  const char* file;
  std::uint32_t line;
  std::uint32_t column;
};

void undefined(const char* what, const void* data) {
  const auto& at = *static_cast<const SourceLocation*>(data);
  Grid::instance().undefined(what, {at.file == nullptr ? "?" : at.file, at.line});
}

}  // namespace

STROP_CALLBACK void __ubsan_handle_type_mismatch_v1(void* data, void*) {
  undefined("accesses an address that its type may not have (misaligned)", data);
}
STROP_CALLBACK void __ubsan_handle_out_of_bounds(void* data, void*) {
  undefined("indexes an array beyond its end (out of bounds)", data);
}
STROP_CALLBACK void __ubsan_handle_shift_out_of_bounds(void* data, void*, void*) {
  undefined("shifts by more than there are bits (shift)", data);
}
STROP_CALLBACK void __ubsan_handle_add_overflow(void* data, void*, void*) {
  undefined("adds beyond the largest number (overflow)", data);
}
STROP_CALLBACK void __ubsan_handle_sub_overflow(void* data, void*, void*) {
  undefined("subtracts beyond the smallest number (overflow)", data);
}
STROP_CALLBACK void __ubsan_handle_mul_overflow(void* data, void*, void*) {
  undefined("multiplies beyond the largest number (overflow)", data);
}
STROP_CALLBACK void __ubsan_handle_negate_overflow(void* data, void*) {
  undefined("negates the smallest number (overflow)", data);
}
STROP_CALLBACK void __ubsan_handle_divrem_overflow(void* data, void*, void*) {
  undefined("divides by zero, or beyond the largest number (overflow)", data);
}
