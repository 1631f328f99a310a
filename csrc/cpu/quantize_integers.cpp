// Rows of fake_quantize in integer formats, compiled once per instruction set (STROP_ISA).

#include "cpu/quantize_rows.h"

namespace strop::cpu::STROP_ISA {
namespace {

template <class T, Rounding kRounding>
constexpr RowKernels<T> kRowsOf = {quantize_blocks<Integers<kRounding>, false, T>,
                                   quantize_blocks<Integers<kRounding>, true, T>,
                                   quantize_elements<ExactIntegers<kRounding, false>, T>,
                                   quantize_elements<ExactIntegers<kRounding, true>, T>};

template <class T>
constexpr RowKernels<T> kRows[kRoundings] = {
    kRowsOf<T, Rounding::kHalfEven>, kRowsOf<T, Rounding::kHalfAway>,
    kRowsOf<T, Rounding::kFloor>,    kRowsOf<T, Rounding::kCeil>,
    kRowsOf<T, Rounding::kTrunc>,    kRowsOf<T, Rounding::kStochastic>,
};

}  // namespace

template <class T>
const RowKernels<T>& integer_rows(Rounding rounding) {
  return kRows<T>[static_cast<int>(rounding)];
}
template const RowKernels<float>& integer_rows(Rounding);
template const RowKernels<BFloat16>& integer_rows(Rounding);
template const RowKernels<Float16>& integer_rows(Rounding);

}  // namespace strop::cpu::STROP_ISA
