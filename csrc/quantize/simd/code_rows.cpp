// Rows of quantize, compiled once per instruction set (STROP_ISA).

#include "quantize/simd/code_rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T, Rounding kRounding>
constexpr CodeRows<T> kIntegerRowsOf = {code_blocks<ExactIntegers<kRounding, false>, T>,
                                        code_elements<ExactIntegers<kRounding, false>, T>,
                                        code_elements<ExactIntegers<kRounding, true>, T>};

template <class T, class Codec>
constexpr CodeRows<T> kGridRowsOf = {code_blocks<Codec, T>, code_elements<Codec, T>,
                                     code_elements<Codec, T>};

template <class T>
constexpr CodeRows<T> kIntegerRows[kRoundings] = {
    kIntegerRowsOf<T, Rounding::kHalfEven>, kIntegerRowsOf<T, Rounding::kHalfAway>,
    kIntegerRowsOf<T, Rounding::kFloor>,    kIntegerRowsOf<T, Rounding::kCeil>,
    kIntegerRowsOf<T, Rounding::kTrunc>,    kIntegerRowsOf<T, Rounding::kStochastic>,
};

template <class T>
constexpr CodeRows<T> kFloatRows[kRoundings] = {
    kGridRowsOf<T, Floats<Rounding::kHalfEven>>, kGridRowsOf<T, Floats<Rounding::kHalfAway>>,
    kGridRowsOf<T, Floats<Rounding::kFloor>>,    kGridRowsOf<T, Floats<Rounding::kCeil>>,
    kGridRowsOf<T, Floats<Rounding::kTrunc>>,    kGridRowsOf<T, Floats<Rounding::kStochastic>>,
};

}  // namespace

template <class T>
const CodeRows<T>& integer_code_rows(Rounding rounding) {
  return kIntegerRows<T>[static_cast<int>(rounding)];
}
template const CodeRows<float>& integer_code_rows(Rounding);
template const CodeRows<BFloat16>& integer_code_rows(Rounding);
template const CodeRows<Float16>& integer_code_rows(Rounding);

template <class T>
const CodeRows<T>& float_code_rows(Rounding rounding) {
  return kFloatRows<T>[static_cast<int>(rounding)];
}
template const CodeRows<float>& float_code_rows(Rounding);
template const CodeRows<BFloat16>& float_code_rows(Rounding);
template const CodeRows<Float16>& float_code_rows(Rounding);

template <class T>
const CodeRows<T>& nf4_code_rows() {
  return kGridRowsOf<T, Nf4s>;
}
template const CodeRows<float>& nf4_code_rows();
template const CodeRows<BFloat16>& nf4_code_rows();
template const CodeRows<Float16>& nf4_code_rows();

}  // namespace strop::quantize::simd::STROP_ISA
