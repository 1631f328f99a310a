#pragma once

#include "kernels/sparse.h"

namespace strop::reference {

// sparse_linear from a kMask layout, in double. x of float64 has a layout of float64.
void sparse_linear(const SparseLinearArgs& args);

}  // namespace strop::reference
