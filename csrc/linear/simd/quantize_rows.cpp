// Rows of x to codes of a byte, as quantize gives them, compiled once per instruction set.

#include "linear/codes_task.h"
#include "linear/simd/dots.h"
#include "linear/simd/integer_tiles.h"
#include "quantize/fake_quantize.h"

namespace strop::linear::simd::STROP_ISA {
namespace {

struct Extremes {
  std::int32_t smallest = 0;  // of the bits as integers that order as floats do, NaN at the ends
  std::int32_t largest = 0;
};

STROP_INLINE I32 ordered(Vec v) {
  const I32 bits = bit_cast<I32>(v.v);
  return bits ^ ((bits >> 31) & broadcast(0x7fffffff));
}

// 0 is among them.
template <class T>
Extremes extremes_of(const T* x, std::int64_t count) {
  I32 low{}, high{};
  std::int64_t k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    const I32 v = ordered(load(x + k));
    low = smaller(low, v);
    high = larger(high, v);
  }
  if (k < count) {
    const I32 v = ordered(load_first(x + k, count - k));
    low = smaller(low, v);
    high = larger(high, v);
  }
  return {smallest(low), largest(high)};
}

STROP_INLINE float from_ordered(std::int32_t v) {
  return bits_float(static_cast<std::uint32_t>(v ^ ((v >> 31) & 0x7fffffff)));
}

quantize::QuantizeParams<float> params_of(const Extremes& found, Activations activations) {
  const float low = from_ordered(found.smallest), high = from_ordered(found.largest);
  if (activations == Activations::kUInt8) {
    return quantize::choose_asymmetric(low, high, ByteRule{0, 255});
  }
  const std::uint32_t below = float_bits(low) & 0x7fffffffu, above = float_bits(high);
  return quantize::choose_symmetric(bits_float(below > above ? below : above), ByteRule{-128, 127});
}

// To uint8 codes: those of int8 are 128 more.
struct ToCodes {
  Vec inverse;
  Vec zero;
  Vec low;
  Vec high;

  template <class Load>
  STROP_MEMBER I32 operator()(Load&& load_at) const {
    const Vec code = round_half_even(load_at() * inverse) + zero;
    return __builtin_convertvector(min(high, max(low, code)).v, I32);
  }
};

// 2 kLanes of them.
STROP_INLINE void store_codes(std::int16_t* to, I16 codes, int offset) {
  store_unaligned(to, codes - broadcast(static_cast<std::int16_t>(offset)));
}
STROP_INLINE void store_codes(std::uint8_t* to, I16 codes, int offset) {
  store_bytes(to, codes ^ broadcast(static_cast<std::int16_t>(offset)));
}

template <class T, class X>
void to_codes(const T* x, std::int64_t count, const ToCodes& code, int offset, X* to) {
  constexpr int kBoth = 2 * kLanes;
  std::int64_t k = 0;
  for (; k + kBoth <= count; k += kBoth) {
    const I32 a = code([&] { return load(x + k); }), b = code([&] { return load(x + k + kLanes); });
    store_codes(to + k, words_of(a, b), offset);
  }
  if (k == count) return;
  T last[kBoth] = {};
  std::memcpy(last, x + k, static_cast<std::size_t>(count - k) * sizeof(T));
  X codes[kBoth];
  const I32 a = code([&] { return load(last); }), b = code([&] { return load(last + kLanes); });
  store_codes(codes, words_of(a, b), offset);
  std::memcpy(to + k, codes, static_cast<std::size_t>(count - k) * sizeof(X));
}

template <class X>
std::int32_t sum_of(const X* codes, std::int64_t count, bool is_signed) {
  std::int32_t sum = 0;
  for (std::int64_t k = 0; k < count; ++k) {
    sum += is_signed ? static_cast<std::make_signed_t<X>>(codes[k]) : codes[k];
  }
  return sum;
}

template <class T, class X>
void quantize_row(const CodesTask& task, std::int64_t row) {
  const CodesHeader& header = task.args.header();
  int offset = x_offset(header);
  const T* const x = static_cast<const T*>(task.args.x) + row * task.args.x_stride;
  X* to = static_cast<X*>(task.x) + row * header.places();
#if defined(STROP_TILES)
  const TiledCodes tiled = {task};
  const bool tiles = sizeof(X) == 1 && suits_tiles(task);
  if constexpr (sizeof(X) == 1) {
    if (tiles) {
      to = tiled.in_order(row);
      offset = 128;
    }
  }
#endif
  const bool is_signed = header.activations == Activations::kInt8;
  const auto params = params_of(extremes_of(x, header.columns), header.activations);
  const ToCodes code = {.inverse = Vec(params.inverse),
                        .zero = Vec(is_signed ? 128.0f : params.zero_point),
                        .low = Vec(0.0f),
                        .high = Vec(255.0f)};
  const bool in_order = header.group == header.stretch;
  const std::int64_t step = in_order ? header.columns : header.group;
  const std::int64_t apart = in_order ? header.places() : header.stretch;
  std::int64_t place = 0;
  if (header.columns == 0) std::memset(static_cast<void*>(to), 0, sizeof(X) * kGroupUnit);
  for (std::int64_t k = 0; k < header.columns; k += step, place += apart) {
    const std::int64_t left = header.columns - k, count = left < step ? left : step;
    to_codes(x + k, count, code, offset, to + place);
    const auto rest = static_cast<std::size_t>(apart - count);
    std::memset(static_cast<void*>(to + place + count), 0, rest * sizeof(X));
  }
#if defined(STROP_TILES)
  if (tiles) tiled.place(row);
#endif
  task.x_scale[row] = params.scale;
  // (that of a row with NaN is NaN, and so is its result)
  const float zero = is_signed                                ? 128.0f
                     : params.zero_point == params.zero_point ? params.zero_point
                                                              : 0.0f;
  task.x_zero[row] = static_cast<std::int32_t>(zero) - offset;
  if (task.x_sums == nullptr) return;
#if defined(STROP_TILES)
  if (tiles && header.bytes_less_zero) return;
#endif
  for (std::int64_t g = 0; g < header.groups; ++g) {
    task.x_sums[row * header.groups + g] =
        sum_of(to + g * header.stretch, header.stretch, offset != 0);
  }
}

}  // namespace

void quantize_rows(const CodesTask& task, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.args.dtype, [&]<class T>() {
    const auto quantize =
        x_is_bytes(task) ? quantize_row<T, std::uint8_t> : quantize_row<T, std::int16_t>;
    for (std::int64_t row = begin; row < end; ++row) quantize(task, row);
  });
}

}  // namespace strop::linear::simd::STROP_ISA
