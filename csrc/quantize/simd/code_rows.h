#pragma once

// Rows of quantize and dequantize: straight runs of elements, and their codes as bytes or words.
// Compiled once per instruction set.

#include "quantize/codes.h"
#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

// Elements of a run: their codes stay in L1.
inline constexpr std::int64_t kCodeRun = 2048;

template <class T>
struct CodeRun {
  const T* input;
  const float* random;  // only for stochastic rounding
  std::int64_t count;
  BlockSteps steps;
  std::int64_t ahead;  // elements, of what to prefetch
};

template <class T>
struct ValueRun {
  T* output;
  std::int64_t count;
  BlockSteps steps;
  bool stream;
  bool saturates;  // results may be beyond T: see Note [Saturation]
};

// Two vectors of codes as words in the order of the elements.
template <bool kInterleaved>
STROP_INLINE I16 ordered_words(I32 a, I32 b) {
  if constexpr (!kInterleaved) return words_of(a, b);
  return bit_cast<I16>(join_halves(bit_cast<U32>(a), bit_cast<U32>(b) << 16));
}

STROP_INLINE QuantizeParams<Vec> broadcast_params(const TileParams& params, std::int64_t block) {
  return {Vec(params.inverse[block]), Vec(params.scale[block]), Vec(params.zero_point[block])};
}

// One block's part of a run, to bytes.
template <class Codec, class T>
STROP_INLINE void code_block(const CodeRun<T>& run, const Codec& codec,
                             const QuantizeParams<Vec>& params, std::uint8_t* to) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  constexpr bool kInterleaved = kPairsInterleave<T> && !kRandom;
  constexpr std::int64_t kPair = 2 * kLanes;
  const auto words = [&](const T* x, const float* u) {
    Pair pair, random{Vec(0.0f), Vec(0.0f)};
    if constexpr (kRandom) random = {load(u), load(u + kLanes)};
    if constexpr (kInterleaved) {
      pair = load_pair(x);
    } else {
      pair = {load(x), load(x + kLanes)};
    }
    return ordered_words<kInterleaved>(codec.code(pair.a, params, random.a),
                                       codec.code(pair.b, params, random.b));
  };
  std::int64_t i = 0;
  for (; i + kPair <= run.count; i += kPair) {
    prefetch(run.input + i + run.ahead);
    store_bytes(to + i, words(run.input + i, kRandom ? run.random + i : nullptr));
  }
  if (const std::int64_t rest = run.count - i; rest > 0) {
    T x[kPair] = {};
    float u[kPair] = {};
    std::uint8_t codes[kPair];
    std::memcpy(x, run.input + i, static_cast<std::size_t>(rest) * sizeof(T));
    if constexpr (kRandom)
      std::memcpy(u, run.random + i, static_cast<std::size_t>(rest) * sizeof(float));
    store_bytes(codes, words(x, u));
    std::memcpy(to + i, codes, static_cast<std::size_t>(rest));
  }
}

// A run whose blocks are of some length.
template <class Codec, class T>
void code_blocks(const CodeRun<T>& row, const TileParams& params, const QuantizeRule& rule,
                 std::uint8_t* to) {
  const Codec codec(rule);
  CodeRun<T> run = row;
  run.count = row.steps.block - row.steps.into;
  std::int64_t block = row.steps.first;
  for (std::int64_t left = row.count; left > 0;
       ++block, left -= run.count, run.count = row.steps.block) {
    if (run.count > left) run.count = left;
    code_block(run, codec, broadcast_params(params, block), to);
    to += run.count;
    run.input += run.count;
    if constexpr (Codec::kRounding == Rounding::kStochastic) run.random += run.count;
  }
}

// A run whose every element has parameters of its own; to words, of which bytes may be made.
template <class Codec, class T>
void code_elements(const CodeRun<T>& run, const TileParams& params, const QuantizeRule& rule,
                   std::uint16_t* to) {
  constexpr bool kRandom = Codec::kRounding == Rounding::kStochastic;
  const Codec codec(rule);
  for (std::int64_t i = 0; i < run.count; i += kLanes) {
    const bool full = run.count - i >= kLanes;
    const auto at = [&](const auto* from) {
      return full ? load(from + i) : load_first(from + i, run.count - i);
    };
    const QuantizeParams<Vec> p = {at(params.inverse), at(params.scale), at(params.zero_point)};
    const I32 codes = codec.code(at(run.input), p, kRandom ? at(run.random) : Vec(0.0f));
    const I32 low = codes & broadcast(std::int32_t{0xffff});
    store_unaligned(to + i, __builtin_convertvector(bit_cast<U32>(low), U16));  // room is there
  }
}

// Codes to their values.
template <bool kSigned, bool kZeroPoint>
struct IntegerValues {
  static constexpr bool kHasZeroPoint = kZeroPoint;
  int shift;  // brings the sign bit to the top

  explicit IntegerValues(const QuantizeRule& rule) : shift(32 - rule.bits) {}

  __attribute__((always_inline)) Vec of(I32 codes) const {
    const I32 numbers = kSigned ? codes << shift >> shift : codes;
    return Vec::wrap(__builtin_convertvector(numbers, F32));
  }
};

// kSpecial: codes beyond the largest value's are there, of NaN or Inf.
template <bool kSpecial>
struct FloatValues {
  static constexpr bool kHasZeroPoint = false;
  const QuantizeRule& rule;
  std::int32_t largest;  // code of a finite value
  float step;            // of subnormals

  explicit FloatValues(const QuantizeRule& r)
      : rule(r),
        largest(static_cast<std::int32_t>(
            float_code(static_cast<float>(r.quant_max), float_grid<float>(r), r))),
        step(float_value<float>(1, r)) {}

  __attribute__((always_inline)) Vec of(I32 codes) const {
    const FloatBits& layout = rule.layout;
    const I32 size = codes & broadcast((1 << (rule.bits - 1)) - 1);
    const I32 sign = (codes ^ size) << (32 - rule.bits);
    const I32 normal = (size << (23 - layout.mantissa)) + broadcast((127 - layout.bias) << 23);
    const F32 tiny = __builtin_convertvector(size, F32) * broadcast(step);
    const I32 is_tiny = I32(size < broadcast(1 << layout.mantissa));
    F32 value = select(is_tiny, tiny, bit_cast<F32>(normal));
    if constexpr (kSpecial) {
      const U32 infinity = broadcast(0x7f800000u), nan = broadcast(0x7fc00000u);
      const U32 beyond = select(I32(size == broadcast(layout.infinity)), infinity, nan);
      value = select(I32(size > broadcast(largest)), bit_cast<F32>(beyond), value);
    }
    return Vec::wrap(bit_cast<F32>(bit_cast<I32>(value) | sign));
  }
};

struct Nf4Values {
  static constexpr bool kHasZeroPoint = false;
  explicit Nf4Values(const QuantizeRule&) {}
  __attribute__((always_inline)) Vec of(I32 codes) const { return nf4_values(codes); }
};

template <class Values>
STROP_INLINE Vec unscaled(const Values& values, I32 codes, Vec zero_point) {
  const Vec value = values.of(codes);
  if constexpr (!Values::kHasZeroPoint) return value;
  return value - zero_point;
}

template <class T>
STROP_INLINE void two_codes(const std::uint8_t* from, I32& a, I32& b) {
  if constexpr (kPairsInterleave<T>) {
    const U32 words = bit_cast<U32>(words_from_bytes(from));
    a = bit_cast<I32>(words & broadcast(0xffffu));
    b = bit_cast<I32>(words >> 16);
  } else {
    a = from_bytes(from);
    b = from_bytes(from + kLanes);
  }
}

template <class Values, class T>
STROP_INLINE Pair values_at(const std::uint8_t* codes, const Values& values,
                            const QuantizeParams<Vec>& params, const T*) {
  I32 a, b;
  two_codes<T>(codes, a, b);
  return {unscaled(values, a, params.zero_point) * params.scale,
          unscaled(values, b, params.zero_point) * params.scale};
}

// One block's part of a run.
template <bool kStream, class Values, class T>
STROP_INLINE void value_block(const std::uint8_t* codes, std::int64_t count, const Values& values,
                              const QuantizeParams<Vec>& params, T* to) {
  constexpr std::int64_t kPair = 2 * kLanes;
  std::int64_t i = 0;
  for (; i + kPair <= count; i += kPair) {
    store_pair<kStream>(to + i, values_at(codes + i, values, params, to));
  }
  if (const std::int64_t rest = count - i; rest > 0) {
    std::uint8_t last[kPair] = {};
    T results[kPair];
    std::memcpy(last, codes + i, static_cast<std::size_t>(rest));
    store_pair<false>(results, values_at(last, values, params, to));
    std::memcpy(to + i, results, static_cast<std::size_t>(rest) * sizeof(T));
  }
}

// Whole blocks of whole pairs. Returns how many elements it did.
template <bool kStream, class Values, class T>
STROP_INLINE std::int64_t value_groups(const ValueRun<T>& run, const std::uint8_t* codes,
                                       const TileParams& params, const Values& values) {
  std::int64_t done = 0;
  for (std::int64_t g = run.steps.first; done + run.steps.block <= run.count; ++g) {
    const QuantizeParams<Vec> of = broadcast_params(params, g);
    for (const std::int64_t end = done + run.steps.block; done < end; done += 2 * kLanes) {
      store_pair<kStream>(run.output + done, values_at(codes + done, values, of, run.output));
    }
  }
  return done;
}

template <class Values, class T>
void value_blocks(const ValueRun<T>& run, const std::uint8_t* codes, const TileParams& params,
                  const QuantizeRule& rule) {
  const Values values(rule);
  std::int64_t done = 0;
  if (pairs_fill(run.steps)) {
    done = run.stream && aligned_for_stream(run.output)
               ? value_groups<true>(run, codes, params, values)
               : value_groups<false>(run, codes, params, values);
  }
  T* to = run.output + done;
  codes += done;
  std::int64_t block = run.steps.first + done / run.steps.block;
  std::int64_t count = run.steps.block - run.steps.into;
  for (std::int64_t left = run.count - done; left > 0;
       ++block, left -= count, count = run.steps.block) {
    if (count > left) count = left;
    const QuantizeParams<Vec> of = broadcast_params(params, block);
    if (run.stream && aligned_for_stream(to)) {
      value_block<true>(codes, count, values, of, to);
    } else {
      value_block<false>(codes, count, values, of, to);
    }
    codes += count;
    to += count;
  }
}

STROP_INLINE I32 codes_at(const std::uint8_t* from) { return from_bytes(from); }
STROP_INLINE I32 codes_at(const std::uint16_t* from) {
  return bit_cast<I32>(__builtin_convertvector(load_unaligned<U16>(from), U32));
}

// A run whose every element has parameters of its own. Codes may be read beyond its end.
template <class Values, class T, class Code>
void value_elements(const ValueRun<T>& run, const Code* codes, const TileParams& params,
                    const QuantizeRule& rule) {
  const Values values(rule);
  const Vec most(static_cast<float>(kLargestNumber<T>));
  for (std::int64_t i = 0; i < run.count; i += kLanes) {
    const std::int64_t left = run.count - i;
    const auto at = [&](const float* from) {
      return left >= kLanes ? load(from + i) : load_first(from + i, left);
    };
    const QuantizeParams<Vec> p = {Vec(0.0f), at(params.scale), at(params.zero_point)};
    const Vec number = unscaled(values, codes_at(codes + i), p.zero_point);
    Vec result = number * p.scale;
    if (run.saturates) [[unlikely]]
      result = saturated(result, number, p, most);
    if (left >= kLanes) {
      store<false>(run.output + i, result);
    } else {
      store_first(run.output + i, result, left);
    }
  }
}

// The rows of one format and rounding, of one format.
template <class T>
struct CodeRows {
  using Elements = void (*)(const CodeRun<T>&, const TileParams&, const QuantizeRule&,
                            std::uint16_t*);
  void (*blocks)(const CodeRun<T>&, const TileParams&, const QuantizeRule&, std::uint8_t*);
  Elements elements;
  Elements elements_floating_zero;
};
template <class T>
struct ValueRows {
  template <class Code>
  using Function = void (*)(const ValueRun<T>&, const Code*, const TileParams&,
                            const QuantizeRule&);
  Function<std::uint8_t> blocks;
  Function<std::uint8_t> elements;
  Function<std::uint16_t> words;
};

// Each in a source of its own.
template <class T>
const CodeRows<T>& integer_code_rows(Rounding rounding);
template <class T>
const CodeRows<T>& float_code_rows(Rounding rounding);
template <class T>
const CodeRows<T>& nf4_code_rows();

}  // namespace strop::quantize::simd::STROP_ISA
