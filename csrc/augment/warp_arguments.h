#pragma once

#include <initializer_list>

#include "augment/arguments.h"
#include "core/check.h"

namespace strop::augment {

// What augment_images and warp_masks check alike. Each throws ArgumentError.

// That a tensor is on the device of the other one.
void check_beside(const char* op, const char* name, const TensorView& view, const char* other_name,
                  const TensorView& other);
void check_matrices(const char* op, const TensorView& matrices, const char* name,
                    const TensorView& images);
// Rows and columns, before and after.
void check_sides(const char* op, const char* name, const TensorView& images, const OutSize& size);
// What is given to write to, with all that is read, images or masks first: Note [Rules of out].
void check_warped(const char* op, const TensorView& out, const std::vector<std::int64_t>& shape,
                  DType dtype, std::initializer_list<Argument> inputs);

[[noreturn]] void throw_fill_error(const char* op, DType dtype, double fill);

// Of shapes [B, C, H, W] before and after. What a resize reads lies in the image.
Warp make_warp(const std::int64_t* from, const std::int64_t* to, const TensorView& matrices);

}  // namespace strop::augment
