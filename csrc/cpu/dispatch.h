#pragma once

#include <string>
#include <vector>

#include "cpu/augment.h"
#include "cpu/prune.h"
#include "cpu/quantize.h"
#include "cpu/quantize_codes.h"
#include "cpu/quantize_gradient.h"
#include "cpu/sparse.h"

namespace strop::cpu {

// The CPU kernels of one instruction set: every family's, side by side.
struct Kernels {
  const char* name;
  QuantizeKernels quantize;
  QuantizeGradientKernels quantize_gradient;
  QuantizeCodeKernels quantize_codes;
  SparseKernels sparse;
  PruneKernels prune;
  AugmentKernels augment;
};

// The set in force, chosen at the first call: the best one that this library was built with, that
// the machine has, and that agrees with the oracle in a self-test of a few milliseconds (a set that
// does not is left out, with a warning on stderr). The environment variable STROP_ISA names
// another. Throws ArgumentError where that is not one of supported_isas().
const Kernels& active_kernels();

// Instruction sets that were built, and those of them that can be used here, best first.
std::vector<std::string> built_isas();
std::vector<std::string> supported_isas();

// Puts a set of supported_isas() in force for the whole process; an empty name goes back to the
// first choice. Throws ArgumentError.
void set_isa(const std::string& name);

// Sets that the machine has but that failed the self-test, with what went wrong.
std::vector<std::string> self_test_failures();

}  // namespace strop::cpu
