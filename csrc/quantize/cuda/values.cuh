#pragma once

// What elements become: random numbers, roundings, formats. A rule is looked at once for several
// elements, not for each.

#include "core/philox.h"
#include "quantize/cuda/fake_quantize.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

template <class A>
__device__ __noinline__ A uniform_at(std::uint64_t seed, std::int64_t index) {
  return A(philox_uniform(seed, RandomStream::kFakeQuantize, static_cast<std::uint64_t>(index)));
}

// Random numbers of kVector elements, four of which share a block of Philox where they may.
template <class A, int kVector>
__device__ __forceinline__ void draw(A (&u)[kVector], const FakeQuantizeArgs& args,
                                     std::int64_t index, std::int64_t step) {
  const std::uint64_t seed = args.seed_at == nullptr ? args.seed : *args.seed_at;
  if constexpr (kVector > 1) {
    constexpr int kShare = kVector < 4 ? kVector : 4;
    if (step == 1 && index % kShare == 0) {
      for (int i = 0; i < kVector; i += kShare) {
        const PhiloxBlock block =
            philox(seed, RandomStream::kFakeQuantize, static_cast<std::uint64_t>(index + i) >> 2);
        const bool upper = kShare == 2 && index % 4 != 0;
        for (int j = 0; j < kShare; ++j) {
          u[i + j] = A(uniform_from_word(upper ? block.word[(2 + j) % 4] : block.word[j]));
        }
      }
      return;
    }
  }
  for (int i = 0; i < kVector; ++i) u[i] = uniform_at<A>(seed, index + i * step);
}

// The roundings of integers that are neither to the nearest even one nor random.
template <class A>
__device__ __forceinline__ A round_by(Rounding rounding, A v) {
  switch (rounding) {
    case Rounding::kHalfAway:
      return round_value<Rounding::kHalfAway>(v, A(0));
    case Rounding::kFloor:
      return round_value<Rounding::kFloor>(v, A(0));
    case Rounding::kCeil:
      return round_value<Rounding::kCeil>(v, A(0));
    default:
      return round_value<Rounding::kTrunc>(v, A(0));
  }
}

// unclamped_code for either kind of zero point: the other kind's sum is one with 0, which changes
// at most the sign of a zero, and that ends as +0 in any case. round(v, i) is of element i.
template <class A, class Round>
__device__ __forceinline__ A any_code(A scaled, A zero_point, bool floating_zero, Round round) {
  const A before = floating_zero ? zero_point : A(0);
  const A after = floating_zero ? A(0) : zero_point;
  return round(scaled + before) + after;
}

// Calls each(i, code) for kCount elements, where code(scaled, zero_point) is what element i is
// rounded to. The rule is looked at once, not for every element. kUsual: it is to nearest, ties to
// even, with integer zero points.
template <bool kUsual, int kCount, class A, class Each>
__device__ __forceinline__ void for_each_code(const Problem<A>& problem, std::int64_t index,
                                              Each each) {
  const auto usual = [](A scaled, A zero_point) {
    return unclamped_code<Rounding::kHalfEven, false>(scaled, zero_point, A(0));
  };
  const Rounding rounding = problem.rule.rounding;
  if (kUsual || (rounding == Rounding::kHalfEven && !problem.floating_zero)) {
    for (int i = 0; i < kCount; ++i) each(i, usual);
    return;
  }
  const auto run = [&](auto round) {
    for (int i = 0; i < kCount; ++i) {
      each(i, [&](A scaled, A zero_point) {
        return any_code(scaled, zero_point, problem.floating_zero,
                        [&](A v) { return round(v, i); });
      });
    }
  };
  if (rounding == Rounding::kStochastic) {
    A u[kCount];
    draw(u, problem.args, index, problem.inner().index);
    run([&](A v, int i) { return round_value<Rounding::kStochastic>(v, u[i]); });
  } else if (rounding == Rounding::kHalfEven) {
    run([](A v, int) { return round_half_even(v); });
  } else {
    run([&](A v, int) { return round_by(rounding, v); });
  }
}

// The same for formats that are no integers: calls each(i, on), where on(scaled) is the number of
// the grid that element i becomes, and whether it is in range.
template <int kCount, class A, class Each>
__device__ __forceinline__ void for_each_on_grid(const Problem<A>& problem, std::int64_t index,
                                                 Each each) {
  const RuleNumbers<A>& rule = problem.rule;
  if (rule.grid == Grid::kNf4) {
    for (int i = 0; i < kCount; ++i) {
      each(i, [](A v) { return nearest_on_grid(v, Nf4Grid<A>{}); });
    }
    return;
  }
  if (rule.rounding == Rounding::kHalfEven) {
    for (int i = 0; i < kCount; ++i) {
      each(i, [&](A v) { return nearest_on_grid(v, rule.floats); });
    }
    return;
  }
  const auto run = [&](auto round) {
    for (int i = 0; i < kCount; ++i) {
      each(i, [&](A v) {
        return rounded_on_grid(v, rule.floats, [&](A steps) { return round(steps, i); });
      });
    }
  };
  if (rule.rounding == Rounding::kStochastic) {
    A u[kCount];
    draw(u, problem.args, index, problem.inner().index);
    run([&](A steps, int i) { return round_value<Rounding::kStochastic>(steps, u[i]); });
  } else {
    run([&](A steps, int) { return round_by(rule.rounding, steps); });
  }
}

// Note [Saturation], at one comparison an element. Lanes that are not there may be beyond as well.
template <class T, int kVector, class A, class ParamsOf>
__device__ __forceinline__ void saturate(A (&values)[kVector], const Piece<T, kVector>& piece,
                                         bool unbounded, ParamsOf params_of) {
  const A most = number<A>(kLargestNumber<T>);
  bool beyond = false;
#pragma unroll
  for (int i = 0; i < kVector; ++i) beyond |= lt(most, magnitude(values[i]));
  if (!beyond) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const A x = unbounded ? widened(piece.x.lane(i)) : A(0);
    values[i] = saturated(values[i], x, params_of(i), most);
  }
}

// Replaces a piece's elements by their results; the bits of their mask, for kMask. params_of(i) has
// the parameters of element i.
template <bool kUsual, bool kMask, class T, int kVector, class ParamsOf>
__device__ __forceinline__ unsigned quantize_piece(Piece<T, kVector>& piece,
                                                   const Problem<Arithmetic<T>>& problem,
                                                   ParamsOf params_of) {
  using A = Arithmetic<T>;
  A values[kVector];
  unsigned bits = 0;
  const auto put = [&](int i, const Quantized<A>& result) {
    values[i] = result.value;
    if (kMask && i < piece.count && result.in_range) bits |= 1u << i;
  };
  if (kUsual || problem.rule.grid == Grid::kInteger) {
    const CodeRange<A> range = {problem.rule.quant_min, problem.rule.quant_max};
    for_each_code<kUsual, kVector>(problem, piece.index, [&](int i, auto code) {
      const QuantizeParams<A> params = params_of(i);
      const A scaled = widened(piece.x.lane(i)) * params.inverse;
      put(i, value_of_code(code(scaled, params.zero_point), params, range));
    });
  } else {
    for_each_on_grid<kVector>(problem, piece.index, [&](int i, auto on) {
      const QuantizeParams<A> params = params_of(i);
      const Quantized<A> found = on(widened(piece.x.lane(i)) * params.inverse);
      put(i, {found.value * params.scale, found.in_range});
    });
  }
  saturate(values, piece, problem.rule.unbounded, params_of);
  narrow(values, piece.x);
  return bits;
}

}  // namespace strop::quantize::cuda
