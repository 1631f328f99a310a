#pragma once

#include "cuda/launch.h"
#include "kernels/sparse_bitmap.h"

namespace strop::cuda {

void sparse_starts(const BitmapStartsArgs& args, const Launch& on);
void sparse_bits(const BitmapPackArgs& args, const Launch& on);
void sparse_values(const BitmapPackArgs& args, const Launch& on);
void unpack_sparse(const BitmapUnpackArgs& args, const Launch& on);
void sparse_linear(const BitmapLinearArgs& args, const Launch& on);

}  // namespace strop::cuda
