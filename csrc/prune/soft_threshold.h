#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/execution.h"
#include "core/tensor_view.h"

namespace strop::prune {

// soft_threshold: y = sign(w) * max(|w| - amount, 0), the proximal operator of amount * |w|, in
// float32 for float32, bfloat16 and float16 (rounded once), in float64 for float64.
//
// - What becomes zero is +0, and so does a weight of -0. A weight of 0 stays 0 whatever the amount.
// - NaN, of a weight or of the amount at a weight that is not 0, gives NaN; so does Inf - Inf.
// - A negative amount moves weights away from 0.
//
// Backward: dw = dy where |w| > amount, else 0 (whatever dy is).

// One dimension: elements, and the steps between them.
struct SoftThresholdDim {
  std::int64_t size;
  std::int64_t weight;
  std::int64_t output;
  std::int64_t amount;
  std::int64_t gradient;
};

// `output` may be `weight` or `gradient`, element by element; partial overlap is not allowed.
struct SoftThresholdArgs {
  DType dtype;
  const void* weight;
  const void* amount;  // float32; float64 for float64; nullptr: `number` everywhere
  double number;
  const void* gradient;
  void* output;
  int dims;  // at least 1
  SoftThresholdDim dim[kMaxDims];

  constexpr std::int64_t count() const {
    std::int64_t all = 1;
    for (int d = 0; d < dims; ++d) all *= dim[d].size;
    return all;
  }
  constexpr const SoftThresholdDim& inner() const { return dim[dims - 1]; }
};

// The backward: the output is what passes of `gradient`.
struct SoftThresholdGradientArgs : SoftThresholdArgs {};

void run(const SoftThresholdArgs& args, Oracle);
void run(const SoftThresholdArgs& args, const ExecutionOptions& options);
void run(const SoftThresholdArgs& args, const Launch& on);

void run(const SoftThresholdGradientArgs& args, Oracle);
void run(const SoftThresholdGradientArgs& args, const ExecutionOptions& options);
void run(const SoftThresholdGradientArgs& args, const Launch& on);

// The same problem in as few dimensions as do, widest steps of the output outside.
SoftThresholdArgs simplified(SoftThresholdArgs args);

// Offsets of a row's first elements, by the row's number.
struct SoftThresholdRow {
  std::int64_t weight = 0;
  std::int64_t output = 0;
  std::int64_t amount = 0;
  std::int64_t gradient = 0;
};

// What a caller gives. The checks throw ArgumentError before anything is allocated.
struct SoftThresholdTensors {
  TensorView weight;
  TensorView amount = {};  // absent: a number
  double number = 0;
  TensorView output = {};  // of the weight's shape; absent where it does not exist yet
  TensorView gradient = {};
};

void check_soft_threshold_amount(const char* op, double amount);
void check_soft_threshold(const char* op, const SoftThresholdTensors& tensors);
SoftThresholdArgs soft_threshold_args(const SoftThresholdTensors& tensors);

}  // namespace strop::prune
