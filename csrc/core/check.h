#pragma once

#include <vector>

#include "core/tensor_view.h"

namespace strop {

// Checks that several ops make, in one set of words. Each throws ArgumentError.

// An argument, by the name that its caller knows.
struct Argument {
  const char* name;
  const TensorView& view;
};

void check_dtype(const char* op, const Argument& given, DType wanted);
void check_shape(const char* op, const Argument& given, const std::vector<std::int64_t>& wanted);
void check_contiguous(const char* op, const Argument& given);
void check_device(const char* op, const Argument& given, const Argument& beside);
// Of another's dtype.
void check_dtype_like(const char* op, const Argument& given, const Argument& like);
// Of another's dtype and shape, on its device.
void check_like(const char* op, const Argument& given, const Argument& like);

// Note [Rules of out]
// What is written to has each element at a place of its own. It may be the input itself, element
// by element, where an op says so; else it shares no memory with what is read.
void check_places(const char* op, const Argument& out);
void check_apart(const char* op, const Argument& out, const Argument& input);
void check_same_or_apart(const char* op, const Argument& out, const Argument& input);

}  // namespace strop
