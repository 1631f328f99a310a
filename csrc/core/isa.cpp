#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "core/argument_error.h"
#include "core/forked.h"
#include "core/kernel_sets.h"

namespace strop {
namespace {

std::string name_of(Isa isa) { return std::string(kIsas[static_cast<int>(isa)].name); }

// Sets that some family has kernels for, best first.
const std::vector<Isa>& built() {
  static const std::vector<Isa> all = [] {
    std::vector<Isa> found;
    for (int i = kIsaCount - 1; i >= 0; --i) {
      const auto isa = static_cast<Isa>(i);
      const auto has = [&](const Family& family) { return family.has_kernels(isa); };
      if (std::any_of(families().begin(), families().end(), has)) found.push_back(isa);
    }
    return found;
  }();
  return all;
}

[[maybe_unused]] const auto& made_with_the_library = built();  // see Note [After a fork]

// What the self-test says of a set that the machine has, found when first asked: choosing the best
// one tests no other.
struct Verdict {
  bool found = false;
  bool usable = false;
  std::string problem;
};

Verdict tested(Isa isa) {
  Verdict result{.found = true, .usable = false, .problem = {}};
  if (!isa_present(isa)) return result;
  for (const Family& family : families()) {
    if (result.problem.empty() && family.has_kernels(isa)) result.problem = family.self_test(isa);
  }
  result.usable = result.problem.empty();
  if (result.usable) return result;
  std::fprintf(stderr,
               "strop: warning: instruction set %s fails its self-test and is not used: %s\n",
               name_of(isa).c_str(), result.problem.c_str());
  return result;
}

// Made with the library: see Note [After a fork].
std::array<Verdict, kIsaCount> verdicts;

const Verdict& verdict(Isa isa) {
  const std::lock_guard<std::mutex> lock(lasting_things());
  Verdict& result = verdicts[static_cast<std::size_t>(isa)];
  if (!result.found) result = tested(isa);
  return result;
}

Isa find(const std::string& name, const char* what) {
  for (const Isa isa : built()) {
    if (name == name_of(isa) && verdict(isa).usable) return isa;
  }
  std::string known;
  for (const std::string& isa : supported_isas()) known += (known.empty() ? "" : ", ") + isa;
  throw_value_error(what, ": instruction set '", name, "' cannot be used on this machine; ", known,
                    " can");
}

Isa first_choice() {
  const char* wanted = std::getenv("STROP_ISA");
  if (wanted != nullptr && *wanted != '\0') return find(wanted, "STROP_ISA");
  for (const Isa isa : built()) {
    if (verdict(isa).usable) return isa;
  }
  throw std::runtime_error("strop: no instruction set passes its self-test");
}

std::atomic<Isa> active{Isa::kActive};  // not chosen yet

}  // namespace

Isa active_isa() {
  Isa isa = active.load(std::memory_order_relaxed);
  if (isa == Isa::kActive) {
    isa = first_choice();
    active.store(isa, std::memory_order_relaxed);
  }
  return isa;
}

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const Isa isa : built()) names.push_back(name_of(isa));
  return names;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Isa isa : built()) {
    if (verdict(isa).usable) names.push_back(name_of(isa));
  }
  return names;
}

Isa isa_within_active(std::string_view name) {
  const Isa active = active_isa();
  for (Isa isa = active; !name.empty();) {
    const IsaInfo& info = kIsas[static_cast<std::size_t>(isa)];
    if (info.name == name) return verdict(isa).usable ? isa : active;
    if (info.extends == info.name) break;
    isa = isa_named(info.extends);
  }
  return active;
}

void set_isa(const std::string& name) {
  active.store(name.empty() ? first_choice() : find(name, "strop.set_isa"),
               std::memory_order_relaxed);
}

std::vector<std::string> self_test_failures() {
  std::vector<std::string> failures;
  for (const Isa isa : built()) {
    if (!verdict(isa).problem.empty())
      failures.push_back(name_of(isa) + ": " + verdict(isa).problem);
  }
  return failures;
}

}  // namespace strop
