#pragma once

// Number formats as the rows of quantize work with them: one element's arithmetic, a vector at a
// time. Compiled once per instruction set.
//
// A codec is made of the call's rule. Its Block has one block's parameters in registers; at() is
// the formula itself, for elements with parameters of their own.

#include "core/simd/vector.h"
#include "formats/simd/nf4.h"
#include "quantize/gradient.h"
#include "quantize/kernels.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Parameters of the blocks of a tile, or of each element of a row. `min` and `max` are of the
// shifted range: see Note [Shifted range] in quantize/fake_quantize.h.
struct alignas(64) TileParams {
  float inverse[kMaxTileBlocks];
  float scale[kMaxTileBlocks];
  float zero_point[kMaxTileBlocks];
  float min[kMaxTileBlocks];
  float max[kMaxTileBlocks];
};

// Integers under usual parameters. Without bounds there are none to clamp to, but results to hold
// within what their dtype can: see Note [Saturation] in quantize/fake_quantize.h.
template <Rounding kRounds, bool kBounds>
struct Integers {
  static constexpr Rounding kRounding = kRounds;
  static constexpr bool kBounded = kBounds;

  __attribute__((always_inline)) explicit Integers(const QuantizeRule&) {}

  struct Block {
    Vec inverse;
    Vec scale;
    CodeRange<Vec> shifted;

    __attribute__((always_inline)) Block(const Integers&, const TileParams& params,
                                         std::int64_t block)
        : inverse(params.inverse[block]),
          scale(params.scale[block]),
          shifted{Vec(params.min[block]), Vec(params.max[block])} {}

    // Of lanes of which half are of a block, half of the next.
    __attribute__((always_inline)) Block(const Block& first, const Block& second)
        : inverse(halves(first.inverse, second.inverse)),
          scale(halves(first.scale, second.scale)),
          shifted{halves(first.shifted.min, second.shifted.min),
                  halves(first.shifted.max, second.shifted.max)} {}

    __attribute__((always_inline)) Quantized<Vec> of(Vec x, Vec u) const {
      if constexpr (!kBounded) return fake_quantize_unbounded<kRounding>(x, inverse, scale, u);
      return fake_quantize_shifted<kRounding>(x, inverse, scale, shifted, u);
    }
  };
};

// Integers by the formula as it stands.
template <Rounding kRounds, bool kFloatingZero>
struct ExactIntegers {
  static constexpr Rounding kRounding = kRounds;
  static constexpr bool kHasZeroPoint = kFloatingZero;  // whether one may be learned
  CodeRange<Vec> range;
  I32 mask;  // of a code's bits

  __attribute__((always_inline)) explicit ExactIntegers(const QuantizeRule& rule)
      : range{number<Vec>(rule.quant_min), number<Vec>(rule.quant_max)},
        mask(broadcast(std::int32_t{(1 << rule.bits) - 1})) {}

  // NaN converts to a number whose low bits are 0.
  __attribute__((always_inline)) I32 code(Vec x, const QuantizeParams<Vec>& params, Vec u) const {
    const Vec wide =
        unclamped_code<kRounding, kFloatingZero>(x * params.inverse, params.zero_point, u);
    const Vec held = min(range.max, max(range.min, wide));
    return __builtin_convertvector(held.v, I32) & mask;
  }

  __attribute__((always_inline)) Quantized<Vec> at(Vec x, const QuantizeParams<Vec>& params,
                                                   Vec u) const {
    return fake_quantize_value<kRounding, kFloatingZero>(x, params, range, u);
  }
  __attribute__((always_inline)) LearnedTerms<Vec> terms(Vec x, Vec dy,
                                                         const QuantizeParams<Vec>& params,
                                                         Vec u) const {
    return learned_terms<kRounding, kFloatingZero>(x, dy, params, range, u);
  }
};

// As float_code of quantize/codes.h: a code from its binade, its steps and its sign.
STROP_INLINE I32 float_codes_of(Vec binade, I32 steps, Vec value, const FloatGrid<Vec>& grid,
                                const QuantizeRule& rule) {
  const I32 exponents = bit_cast<I32>(binade.v) - bit_cast<I32>(grid.smallest_normal.v);
  const I32 sign = bit_cast<I32>(bit_cast<U32>(value.v) >> 31);
  const I32 code = (exponents >> (23 - rule.layout.mantissa)) + steps + (sign << (rule.bits - 1));
  const U32 nan = broadcast(static_cast<std::uint32_t>(rule.layout.nan));
  return bit_cast<I32>(select(eq(value, value), bit_cast<U32>(code), nan));
}

// Of numbers of the grid.
STROP_INLINE I32 float_codes(Vec value, const FloatGrid<Vec>& grid, const QuantizeRule& rule) {
  const Vec size = magnitude(value);
  const Vec binade = max(grid.smallest_normal, power_of_two_below(size));
  const Vec steps = size * inverse_of_power(binade * grid.step);
  return float_codes_of(binade, __builtin_convertvector(steps.v, I32), value, grid, rule);
}

// Of numbers that are yet to be rounded, half to even: the sum of Note [Float grid] has the steps
// in its low bits.
STROP_INLINE I32 nearest_float_codes(Vec v, const FloatGrid<Vec>& grid, const QuantizeRule& rule) {
  const Vec held = min(grid.max, magnitude(v));
  const Vec binade = max(grid.smallest_normal, power_of_two_below(held));
  const Vec magic = binade * grid.magic;
  const I32 steps = bit_cast<I32>((held + magic).v) - bit_cast<I32>(magic.v);
  return float_codes_of(binade, steps, v, grid, rule);
}

// What is no integer. Grid is FloatGrid<Vec> or Nf4Grid<Vec>.
template <Rounding kRounds, class Grid>
struct OnGrid {
  static constexpr Rounding kRounding = kRounds;
  static constexpr bool kBounded = true;
  static constexpr bool kHasZeroPoint = false;
  Grid grid;

  const QuantizeRule& rule;

  __attribute__((always_inline)) explicit OnGrid(const QuantizeRule& r) : rule(r) {
    if constexpr (std::is_same_v<Grid, FloatGrid<Vec>>) grid = float_grid<Vec>(r);
  }

  __attribute__((always_inline)) I32 code(Vec x, const QuantizeParams<Vec>& params, Vec u) const {
    if constexpr (std::is_same_v<Grid, Nf4Grid<Vec>>) {
      return nf4_codes(x * params.inverse);
    } else if constexpr (kRounding == Rounding::kHalfEven) {
      return nearest_float_codes(x * params.inverse, grid, rule);
    } else {
      return float_codes(on_grid<kRounding>(x * params.inverse, grid, u).value, grid, rule);
    }
  }

  __attribute__((always_inline)) Quantized<Vec> at(Vec x, const QuantizeParams<Vec>& params,
                                                   Vec u) const {
    return fake_quantize_on_grid<kRounding>(x, params.inverse, params.scale, grid, u);
  }
  __attribute__((always_inline)) LearnedTerms<Vec> terms(Vec x, Vec dy,
                                                         const QuantizeParams<Vec>& params,
                                                         Vec u) const {
    return learned_terms_on_grid<kRounding>(x, dy, params, grid, u);
  }

  struct Block {
    const Grid& grid;  // (a copy went through the stack in halves: 30 cycles a block)
    Vec inverse;
    Vec scale;

    __attribute__((always_inline)) Block(const OnGrid& codec, const TileParams& params,
                                         std::int64_t block)
        : grid(codec.grid), inverse(params.inverse[block]), scale(params.scale[block]) {}
    __attribute__((always_inline)) Block(const Block& first, const Block& second)
        : grid(first.grid),
          inverse(halves(first.inverse, second.inverse)),
          scale(halves(first.scale, second.scale)) {}

    __attribute__((always_inline)) Quantized<Vec> of(Vec x, Vec u) const {
      return fake_quantize_on_grid<kRounding>(x, inverse, scale, grid, u);
    }
  };
};

template <Rounding kRounding>
using Floats = OnGrid<kRounding, FloatGrid<Vec>>;
using Nf4s = OnGrid<Rounding::kHalfEven, Nf4Grid<Vec>>;

}  // namespace strop::quantize::simd::STROP_ISA
