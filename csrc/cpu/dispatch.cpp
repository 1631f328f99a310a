#include "cpu/dispatch.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "cpu/self_test.h"
#include "kernels/argument_error.h"
#include "kernels/forked.h"

namespace strop::cpu {

// Defined by the sources that are compiled once per instruction set.
#define STROP_DECLARE_KERNELS(isa)                        \
  namespace isa {                                         \
  extern const QuantizeKernels quantize;                  \
  extern const QuantizeGradientKernels quantize_gradient; \
  extern const QuantizeCodeKernels quantize_codes;        \
  extern const PruneKernels prune;                        \
  extern const SparseKernels sparse;                      \
  extern const AugmentKernels augment;                    \
  }
#if defined(STROP_HAVE_AVX512)
STROP_DECLARE_KERNELS(avx512)
#endif
#if defined(STROP_HAVE_AVX2)
STROP_DECLARE_KERNELS(avx2)
#endif
#if defined(STROP_HAVE_NEON)
STROP_DECLARE_KERNELS(neon)
#endif
STROP_DECLARE_KERNELS(baseline)
#undef STROP_DECLARE_KERNELS

namespace {

struct BuiltSet {
  Kernels kernels;
  bool (*present)();
};

#if defined(STROP_HAVE_AVX512)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif
#if defined(STROP_HAVE_AVX2)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
}
#endif
bool always() { return true; }

#define STROP_KERNELS(isa)                                                                     \
  Kernels {                                                                                    \
    #isa, isa::quantize, isa::quantize_gradient, isa::quantize_codes, isa::sparse, isa::prune, \
        isa::augment                                                                           \
  }

// Best first.
const std::vector<BuiltSet>& built_sets() {
  static const std::vector<BuiltSet> sets = {
#if defined(STROP_HAVE_AVX512)
      {STROP_KERNELS(avx512), has_avx512},
#endif
#if defined(STROP_HAVE_AVX2)
      {STROP_KERNELS(avx2), has_avx2},
#endif
#if defined(STROP_HAVE_NEON)
      {STROP_KERNELS(neon), always},
#endif
      {STROP_KERNELS(baseline), always},
  };
  return sets;
}
#undef STROP_KERNELS

// What the self-test says of each built set that the machine has, found when first asked: choosing
// the best one tests no other.
struct Verdict {
  bool found = false;
  bool usable = false;
  std::string problem;
};

Verdict found_verdict(const BuiltSet& set) {
  Verdict result{.found = true, .usable = false, .problem = {}};
  if (!set.present()) return result;
  result.problem = self_test(set.kernels);
  result.usable = result.problem.empty();
  if (result.usable) return result;
  std::fprintf(stderr,
               "strop: warning: instruction set %s fails its self-test and is not used: %s\n",
               set.kernels.name, result.problem.c_str());
  return result;
}

std::vector<Verdict>& verdicts() {
  static std::vector<Verdict> all(built_sets().size());
  return all;
}
[[maybe_unused]] const std::vector<Verdict>& made_with_the_library =
    verdicts();  // see Note [After a fork]

const Verdict& verdict(std::size_t number) {
  const std::lock_guard<std::mutex> lock(lasting_things());
  Verdict& result = verdicts()[number];
  if (!result.found) result = found_verdict(built_sets()[number]);
  return result;
}

const Kernels& find(const std::string& name, const char* what) {
  for (std::size_t i = 0; i < built_sets().size(); ++i) {
    if (name == built_sets()[i].kernels.name && verdict(i).usable) return built_sets()[i].kernels;
  }
  std::string known;
  for (const std::string& isa : supported_isas()) known += (known.empty() ? "" : ", ") + isa;
  throw_value_error(what, ": instruction set '", name, "' cannot be used on this machine; ", known,
                    " can");
}

const Kernels& first_choice() {
  const char* wanted = std::getenv("STROP_ISA");
  if (wanted != nullptr && *wanted != '\0') return find(wanted, "STROP_ISA");
  for (std::size_t i = 0; i < built_sets().size(); ++i) {
    if (verdict(i).usable) return built_sets()[i].kernels;
  }
  throw std::runtime_error("strop: no instruction set passes its self-test");
}

std::atomic<const Kernels*> active{nullptr};

}  // namespace

const Kernels& active_kernels() {
  const Kernels* kernels = active.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    kernels = &first_choice();
    active.store(kernels, std::memory_order_release);
  }
  return *kernels;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const BuiltSet& set : built_sets()) names.emplace_back(set.kernels.name);
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < built_sets().size(); ++i) {
    if (verdict(i).usable) names.emplace_back(built_sets()[i].kernels.name);
  }
  return names;
}

void set_isa(const std::string& name) {
  active.store(name.empty() ? &first_choice() : &find(name, "strop.set_isa"),
               std::memory_order_release);
}

std::vector<std::string> self_test_failures() {
  std::vector<std::string> failures;
  for (std::size_t i = 0; i < built_sets().size(); ++i) {
    if (verdict(i).problem.empty()) continue;
    failures.push_back(std::string(built_sets()[i].kernels.name) + ": " + verdict(i).problem);
  }
  return failures;
}

}  // namespace strop::cpu
