#include <type_traits>

#include "core/argument_error.h"
#include "linear/layout.h"
#include "linear/reference/activation.h"

namespace strop::linear::reference {
namespace {

template <class T, class V>
void multiply(const MaskedLinearArgs& args) {
  const LayoutHeader& header = args.header();
  const auto* const base = static_cast<const std::uint8_t*>(args.layout);
  const auto* const starts = reinterpret_cast<const std::int64_t*>(base + header.first);
  const auto* const words = reinterpret_cast<const std::uint64_t*>(base + header.second);
  const auto* const values = reinterpret_cast<const V*>(base + header.third);
  using Rounded = std::conditional_t<std::is_same_v<T, double>, double, float>;
  for (std::int64_t m = 0; m < args.rows; ++m) {
    const T* const x = static_cast<const T*>(args.x) + m * args.x_stride;
    T* const y = static_cast<T*>(args.y) + m * args.y_stride;
    for (std::int64_t n = 0; n < header.rows; ++n) {
      double sum = 0;
      std::int64_t next = starts[n];
      for (std::int64_t k = 0; k < header.columns; ++k) {
        const std::uint64_t word = words[n * header.row_words() + k / 64];
        if ((word >> (k % 64) & 1) != 0) sum += double(to_float(x[k])) * to_float(values[next++]);
      }
      sum += bias_at(args, n);
      y[n] = FromFloat<T>::call(static_cast<Rounded>(activated(sum, args.activation)));
    }
  }
}

}  // namespace
}  // namespace strop::linear::reference

namespace strop::linear {

void run(const MaskedLinearArgs& args, Oracle) {
  if (args.header().kind != LayoutKind::kMask) {
    throw_value_error("strop.packed_linear: the reference loop takes a layout of bits");
  }
  by_dtype(args.dtype, [&]<class T>() {
    by_dtype(args.header().values(), [&]<class V>() { reference::multiply<T, V>(args); });
  });
}

}  // namespace strop::linear
