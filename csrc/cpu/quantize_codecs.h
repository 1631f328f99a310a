#pragma once

// Number formats as the rows of quantize work with them: one element's arithmetic, a vector at a
// time. Compiled once per instruction set.
//
// A codec is made of the call's rule. Its Block has one block's parameters in registers; at() is
// the formula itself, for elements with parameters of their own.

#include "cpu/nf4.h"
#include "cpu/quantize.h"
#include "cpu/vector.h"
#include "kernels/quantize_gradient.h"

namespace strop::cpu::STROP_ISA {

// Parameters of the blocks of a tile, or of each element of a row. `min` and `max` are of the
// shifted range: see Note [Shifted range] in kernels/quantize.h.
struct alignas(64) TileParams {
  float inverse[kMaxTileBlocks];
  float scale[kMaxTileBlocks];
  float zero_point[kMaxTileBlocks];
  float min[kMaxTileBlocks];
  float max[kMaxTileBlocks];
};

// Integers under usual parameters.
template <Rounding kRounds>
struct Integers {
  static constexpr Rounding kRounding = kRounds;

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

  __attribute__((always_inline)) explicit ExactIntegers(const QuantizeRule& rule)
      : range{number<Vec>(rule.quant_min), number<Vec>(rule.quant_max)} {}

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

// What is no integer. Grid is FloatGrid<Vec> or Nf4Grid<Vec>.
template <Rounding kRounds, class Grid>
struct OnGrid {
  static constexpr Rounding kRounding = kRounds;
  static constexpr bool kHasZeroPoint = false;
  Grid grid;

  __attribute__((always_inline)) explicit OnGrid(const QuantizeRule& rule) {
    if constexpr (std::is_same_v<Grid, FloatGrid<Vec>>) grid = float_grid<Vec>(rule);
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

}  // namespace strop::cpu::STROP_ISA
