#include "prune/numpy/ops.h"

namespace strop::prune {

void bind_arrays(pybind11::module_&, pybind11::module_& cpu, pybind11::module_& reference) {
  bind(cpu, kPruneArrayOps<InForce>, "on the instruction set in force, in this thread");
  bind(reference, kPruneArrayOps<ByOracle>, "by the reference loop");
}

}  // namespace strop::prune
