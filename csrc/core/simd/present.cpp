#include "core/kernel_sets.h"

namespace strop {

bool isa_present([[maybe_unused]] Isa isa) {
  if (isa == isa_named("baseline")) return true;
#if defined(__x86_64__)
  if (isa == isa_named("avx2")) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  }
  if (isa == isa_named("avx512")) {
    return isa_present(isa_named("avx2")) && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
  }
#elif defined(__aarch64__)
  if (isa == isa_named("neon")) return true;
#endif
  return false;
}

}  // namespace strop
