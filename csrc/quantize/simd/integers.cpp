// Rows of fake_quantize in integer formats, compiled once per instruction set (STROP_ISA).

#include "quantize/simd/rows.h"

namespace strop::quantize::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class T, Rounding kRounding, bool kBounded>
constexpr RowKernels<T> kRowsOf = {quantize_blocks<Integers<kRounding, kBounded>, false, T>,
                                   quantize_blocks<Integers<kRounding, kBounded>, true, T>,
                                   quantize_elements<ExactIntegers<kRounding, false>, T>,
                                   quantize_elements<ExactIntegers<kRounding, true>, T>};

template <class T, bool kBounded>
constexpr RowKernels<T> kRows[kRoundings] = {
    kRowsOf<T, Rounding::kHalfEven, kBounded>, kRowsOf<T, Rounding::kHalfAway, kBounded>,
    kRowsOf<T, Rounding::kFloor, kBounded>,    kRowsOf<T, Rounding::kCeil, kBounded>,
    kRowsOf<T, Rounding::kTrunc, kBounded>,    kRowsOf<T, Rounding::kStochastic, kBounded>,
};

}  // namespace

template <class T>
const RowKernels<T>& integer_rows(const QuantizeRule& rule) {
  const auto& rows = rule.unbounded_at_both_ends() ? kRows<T, false> : kRows<T, true>;
  return rows[static_cast<int>(rule.rounding)];
}
template const RowKernels<float>& integer_rows(const QuantizeRule&);
template const RowKernels<BFloat16>& integer_rows(const QuantizeRule&);
template const RowKernels<Float16>& integer_rows(const QuantizeRule&);

}  // namespace strop::quantize::simd::STROP_ISA
