#include <type_traits>

#include "core/argument_error.h"
#include "linear/bitmap.h"
#include "linear/reference/activation.h"

namespace strop::linear::reference {
namespace {

template <class T, class V>
void multiply(const BitmapLinearArgs& args) {
  const BitmapMatrix& weight = args.weight;
  using Rounded = std::conditional_t<std::is_same_v<T, double>, double, float>;
  for (std::int64_t m = 0; m < args.rows; ++m) {
    const T* const x = static_cast<const T*>(args.x) + m * args.x_stride;
    T* const y = static_cast<T*>(args.y) + m * args.y_stride;
    for (std::int64_t n = 0; n < weight.rows; ++n) {
      const std::uint8_t* const bits = weight.bits + n * weight.row_bytes();
      const V* value = static_cast<const V*>(weight.values) + weight.starts[n];
      double sum = 0;
      for (std::int64_t k = 0; k < weight.columns; ++k) {
        if ((bits[k / 8] >> k % 8 & 1) != 0) sum += double(to_float(x[k])) * to_float(*value++);
      }
      sum += bias_at(args, n);
      y[n] = FromFloat<T>::call(static_cast<Rounded>(activated(sum, args.activation)));
    }
  }
}

}  // namespace
}  // namespace strop::linear::reference

namespace strop::linear {

void run(const BitmapLinearArgs& args, Oracle) {
  by_dtype(args.dtype, [&]<class T>() {
    by_dtype(args.weight.dtype, [&]<class V>() { reference::multiply<T, V>(args); });
  });
}

void run(const MaskedLinearArgs& args, Oracle) {
  if (args.header().kind != LayoutKind::kMask) {
    throw_value_error("strop.packed_linear: the reference loop takes a layout of bits");
  }
  run(BitmapLinearArgs{args, bitmap_of(args.layout)}, Oracle{});
}

}  // namespace strop::linear
