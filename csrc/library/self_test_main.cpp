// The self-test as a program: which instruction sets this machine has, and whether each agrees with
// the oracle. Exit status 1 if one does not.

#include <cstdio>

#include "core/kernel_sets.h"

int main() {
  for (const std::string& name : strop::supported_isas()) std::printf("ok: %s\n", name.c_str());
  const auto failures = strop::self_test_failures();
  for (const std::string& failure : failures) std::printf("FAILED: %s\n", failure.c_str());
  return failures.empty() ? 0 : 1;
}
