// Rows of learned_gradient in integer formats, compiled once per instruction set (STROP_ISA).

#include "quantize/simd/gradient_rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T, bool kFloatingZero>
constexpr LearnedRows<T> kRows[kRoundings] = {
    kLearnedRowsOf<T, ExactIntegers<Rounding::kHalfEven, kFloatingZero>>,
    kLearnedRowsOf<T, ExactIntegers<Rounding::kHalfAway, kFloatingZero>>,
    kLearnedRowsOf<T, ExactIntegers<Rounding::kFloor, kFloatingZero>>,
    kLearnedRowsOf<T, ExactIntegers<Rounding::kCeil, kFloatingZero>>,
    kLearnedRowsOf<T, ExactIntegers<Rounding::kTrunc, kFloatingZero>>,
    kLearnedRowsOf<T, ExactIntegers<Rounding::kStochastic, kFloatingZero>>,
};

}  // namespace

template <class T>
const LearnedRows<T>& learned_integer_rows(Rounding rounding, bool floating_zero) {
  return (floating_zero ? kRows<T, true> : kRows<T, false>)[static_cast<int>(rounding)];
}
template const LearnedRows<float>& learned_integer_rows(Rounding, bool);
template const LearnedRows<BFloat16>& learned_integer_rows(Rounding, bool);
template const LearnedRows<Float16>& learned_integer_rows(Rounding, bool);

}  // namespace strop::quantize::simd::STROP_ISA
