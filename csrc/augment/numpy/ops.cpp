#include "augment/numpy/ops.h"

namespace strop::augment {

void bind_arrays(pybind11::module_&, pybind11::module_& cpu, pybind11::module_& reference) {
  const char* const in_force = "on the instruction set in force, in this thread";
  bind(cpu, kAugmentArrayOps<InForce>, in_force);
  bind(cpu, kWarpArrayOps<InForce>, in_force);
  const char* const by_oracle = "by the reference loop";
  bind(reference, kAugmentArrayOps<ByOracle>, by_oracle);
  bind(reference, kWarpArrayOps<ByOracle>, by_oracle);
}

}  // namespace strop::augment
