// Rows of learned_gradient in float formats and NF4, compiled once per instruction set (STROP_ISA).

#include "quantize/simd/gradient_rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T>
constexpr LearnedRows<T> kFloatRows[kRoundings] = {
    kLearnedRowsOf<T, Floats<Rounding::kHalfEven>>,
    kLearnedRowsOf<T, Floats<Rounding::kHalfAway>>,
    kLearnedRowsOf<T, Floats<Rounding::kFloor>>,
    kLearnedRowsOf<T, Floats<Rounding::kCeil>>,
    kLearnedRowsOf<T, Floats<Rounding::kTrunc>>,
    kLearnedRowsOf<T, Floats<Rounding::kStochastic>>,
};

}  // namespace

template <class T>
const LearnedRows<T>& learned_float_rows(Rounding rounding) {
  return kFloatRows<T>[static_cast<int>(rounding)];
}
template const LearnedRows<float>& learned_float_rows(Rounding);
template const LearnedRows<BFloat16>& learned_float_rows(Rounding);
template const LearnedRows<Float16>& learned_float_rows(Rounding);

template <class T>
const LearnedRows<T>& learned_nf4_rows() {
  return kLearnedRowsOf<T, Nf4s>;
}
template const LearnedRows<float>& learned_nf4_rows();
template const LearnedRows<BFloat16>& learned_nf4_rows();
template const LearnedRows<Float16>& learned_nf4_rows();

}  // namespace strop::quantize::simd::STROP_ISA
