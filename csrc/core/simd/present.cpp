#include "core/kernel_sets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace strop {
namespace {

#if defined(__x86_64__)

// Leaf 7's registers; compilers do not know all of their bits by name.
struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
};
Leaf leaf7(unsigned sub) {
  Leaf leaf;
  __get_cpuid_count(7, sub, &leaf.a, &leaf.b, &leaf.c, &leaf.d);
  return leaf;
}
constexpr bool bit(unsigned word, int number) { return (word >> number & 1) != 0; }

// The system has to be asked for the tiles' registers, once a process; they are its later threads'
// as well.
bool allows_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  static const bool allowed = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return allowed;
#else
  return false;
#endif
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx2_vnni() { return has_avx2() && bit(leaf7(1).a, 4); }
bool has_avx512_vnni() {
  const unsigned features = leaf7(0).c;
  return has_avx512() && bit(features, 11) && bit(features, 6) && bit(leaf7(1).a, 5);
}
bool has_amx() {
  const unsigned features = leaf7(0).d;
  return has_avx512_vnni() && bit(features, 24) && bit(features, 25) && bit(features, 22) &&
         allows_tiles();
}

#elif defined(__aarch64__)

bool has_dot_products() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  return (getauxval(AT_HWCAP) & kDotProducts) != 0;
#elif defined(__APPLE__)
  return true;  // every processor of theirs with this architecture
#else
  return false;
#endif
}

bool has_matrices() {
#if defined(__linux__)
  constexpr unsigned long kMatrices = 1ul << 13;  // HWCAP2_I8MM
  return has_dot_products() && (getauxval(AT_HWCAP2) & kMatrices) != 0;
#elif defined(__APPLE__)
  int found = 0;
  std::size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_I8MM", &found, &size, nullptr, 0) == 0 && found != 0;
#else
  return false;
#endif
}

#endif

}  // namespace

bool isa_present([[maybe_unused]] Isa isa) {
  if (isa == isa_named("baseline")) return true;
#if defined(__x86_64__)
  if (isa == isa_named("avx2")) return has_avx2();
  if (isa == isa_named("avx2_vnni")) return has_avx2_vnni();
  if (isa == isa_named("avx512")) return has_avx512();
  if (isa == isa_named("avx512_vnni")) return has_avx512_vnni();
  if (isa == isa_named("amx")) return has_amx();
#elif defined(__aarch64__)
  if (isa == isa_named("neon")) return true;
  if (isa == isa_named("neon_dot")) return has_dot_products();
  if (isa == isa_named("neon_i8mm")) return has_matrices();
#endif
  return false;
}

}  // namespace strop
