#pragma once

#include <array>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "core/isa.h"

namespace strop {

// Instruction sets. Each extends another, and stands after it; the last that a machine can use is
// the best one. A family is compiled for some of them: for the others it has the kernels of the
// set that they extend.
struct IsaInfo {
  std::string_view name;
  std::string_view extends;
};
inline constexpr IsaInfo kIsas[] = {
    {"baseline", "baseline"},  {"neon", "baseline"},      {"neon_dot", "neon"},
    {"neon_i8mm", "neon_dot"}, {"avx2", "baseline"},      {"avx2_vnni", "avx2"},
    {"avx512", "avx2"},        {"avx512_vnni", "avx512"}, {"amx", "avx512_vnni"},
};
inline constexpr int kIsaCount = static_cast<int>(std::size(kIsas));

constexpr Isa isa_named(std::string_view name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (kIsas[i].name == name) return static_cast<Isa>(i);
  }
  throw std::logic_error("no such instruction set");  // does not compile, where it can be seen
}

// Sets that were built, and those of them that can be used here, best first.
std::vector<std::string> built_isas();
std::vector<std::string> supported_isas();

// A set by its name, where the one in force is or extends it and it passes its self-test; else, and
// for an empty name, the one in force.
Isa isa_within_active(std::string_view name);

// Puts a set of supported_isas() in force for the whole process; an empty name goes back to the
// first choice. Throws ArgumentError.
void set_isa(const std::string& name);

// Sets that the machine has but that failed the self-test, with what went wrong.
std::vector<std::string> self_test_failures();

// A family's kernels, by instruction set.
template <class Kernels>
class KernelSets {
 public:
  struct Built {
    std::string_view isa;
    const Kernels* kernels;
  };

  // The baseline is always among them.
  constexpr KernelSets(std::initializer_list<Built> built) {
    for (const Built& each : built) at(own_, isa_named(each.isa)) = each.kernels;
    for (int i = 0; i < kIsaCount; ++i) {
      const auto number = static_cast<std::size_t>(i);
      nearest_[number] =
          own_[number] != nullptr ? own_[number] : at(nearest_, isa_named(kIsas[i].extends));
    }
  }

  constexpr bool has(Isa isa) const { return own_[static_cast<std::size_t>(isa)] != nullptr; }
  const Kernels& of(Isa isa) const {
    return *nearest_[static_cast<std::size_t>(isa == Isa::kActive ? active_isa() : isa)];
  }

 private:
  using Table = std::array<const Kernels*, kIsaCount>;
  static constexpr auto& at(Table& table, Isa isa) { return table[static_cast<std::size_t>(isa)]; }

  Table own_ = {};
  Table nearest_ = {};
};

// What is known here of a family. library/families.cpp has the list.
struct Family {
  const char* name;
  bool (*has_kernels)(Isa isa);
  // Its kernels of a set against the oracle, on a few small problems of each kind. Empty: all
  // agree; else what differed.
  std::string (*self_test)(Isa isa);
};
const std::vector<Family>& families();

}  // namespace strop
