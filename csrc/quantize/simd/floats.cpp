// Rows of fake_quantize in float formats and NF4, compiled once per instruction set (STROP_ISA).

#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T, class Codec>
constexpr RowKernels<T> kRowsOf = {quantize_blocks<Codec, false, T>,
                                   quantize_blocks<Codec, true, T>, quantize_elements<Codec, T>,
                                   quantize_elements<Codec, T>};

template <class T>
constexpr RowKernels<T> kFloatRows[kRoundings] = {
    kRowsOf<T, Floats<Rounding::kHalfEven>>, kRowsOf<T, Floats<Rounding::kHalfAway>>,
    kRowsOf<T, Floats<Rounding::kFloor>>,    kRowsOf<T, Floats<Rounding::kCeil>>,
    kRowsOf<T, Floats<Rounding::kTrunc>>,    kRowsOf<T, Floats<Rounding::kStochastic>>,
};

}  // namespace

template <class T>
const RowKernels<T>& float_rows(Rounding rounding) {
  return kFloatRows<T>[static_cast<int>(rounding)];
}
template const RowKernels<float>& float_rows(Rounding);
template const RowKernels<BFloat16>& float_rows(Rounding);
template const RowKernels<Float16>& float_rows(Rounding);

template <class T>
const RowKernels<T>& nf4_rows() {
  return kRowsOf<T, Nf4s>;
}
template const RowKernels<float>& nf4_rows();
template const RowKernels<BFloat16>& nf4_rows();
template const RowKernels<Float16>& nf4_rows();

}  // namespace strop::quantize::simd::STROP_ISA
