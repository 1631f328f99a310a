#pragma once

#include "core/execution.h"
#include "cpu/quantize.h"
#include "kernels/quantize_gradient.h"

namespace strop::cpu {

// The whole ops, on the instruction set in force or on a given one. learned_gradient of float64
// runs the reference loop.
struct QuantizeGradientKernels;
void masked_gradient(const MaskedGradientArgs& args, const Parallel& parallel);
void masked_gradient(const MaskedGradientArgs& args, const Parallel& parallel,
                     const QuantizeGradientKernels& kernels);
void learned_gradient(const LearnedGradientArgs& args, const Parallel& parallel);
void learned_gradient(const LearnedGradientArgs& args, const Parallel& parallel,
                      const QuantizeGradientKernels& kernels);

// Elements of the unit in which masked_gradient is shared among threads: whole cache lines of every
// type, and of the mask.
inline constexpr std::int64_t kMaskedUnit = 4096;

// A learned_gradient in tiles: see Note [Quantize tiles]. Every tile sums its blocks' terms into
// doubles of its own, `blocks_held` of them from tile number * blocks_held on.
struct LearnedTask {
  QuantizeTask forward;
  const void* gradient;
  std::int64_t blocks_held;
  double* scale_sums;
  double* zero_sums;  // nullptr unless the zero point is floating
};

// The kernels, once per instruction set.
struct QuantizeGradientKernels {
  // `begin` and `end` are elements, multiples of kMaskedUnit or the end.
  void (*masked)(const MaskedGradientArgs& args, bool stream, std::int64_t begin, std::int64_t end);
  // `begin` and `end` are tile numbers.
  void (*learned)(const LearnedTask& task, std::int64_t begin, std::int64_t end);
};

const QuantizeGradientKernels& quantize_gradient_kernels(Isa isa);
bool has_quantize_gradient_kernels(Isa isa);

}  // namespace strop::cpu
