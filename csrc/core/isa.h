#pragma once

namespace strop {

// An instruction set: a place in kIsas (core/kernel_sets.h).
enum class Isa : int { kActive = -1 };  // the set in force

// The set in force, chosen at the first call: the best one that the library was built with, that
// the machine has, and whose kernels agree with the oracle in a self-test of a few milliseconds (a
// set that does not is left out, with a warning on stderr). The environment variable STROP_ISA
// names another. Throws ArgumentError where that is not one of supported_isas().
Isa active_isa();

// Whether this machine has it.
bool isa_present(Isa isa);

}  // namespace strop
