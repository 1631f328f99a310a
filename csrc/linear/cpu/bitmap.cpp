#include "linear/bitmap.h"

#include <algorithm>
#include <type_traits>

#include "linear/bits.h"
#include "linear/kernels.h"

namespace strop::linear {

void run(const BitmapBitsArgs& args, const ExecutionOptions& options) {
  const auto nonzero_bits = kernels(options.isa).nonzero_bits;
  by_dtype(args.dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(args.weight);
    std::uint8_t* bits = args.bits;
    for (std::int64_t row = 0; row < args.rows; ++row, from += args.columns) {
      if constexpr (std::is_same_v<T, float>) {
        nonzero_bits(from, args.columns, bits);
        bits += args.row_bytes();
      } else {
        for (std::int64_t at = 0; at < args.columns; at += 8) {
          unsigned byte = 0;
          for (int i = 0; i < std::min<std::int64_t>(args.columns - at, 8); ++i) {
            byte |= static_cast<unsigned>(to_float(from[at + i]) != 0) << i;
          }
          *bits++ = static_cast<std::uint8_t>(byte);
        }
      }
    }
  });
}

void run(const BitmapStartsArgs& args, const ExecutionOptions&) {
  std::int64_t count = 0;
  for (std::int64_t row = 0; row < args.rows; ++row) {
    args.starts[row] = count;
    const std::uint8_t* const bits = args.bits + row * args.row_bytes;
    for (std::int64_t at = 0; at < args.row_bytes; at += 8) {
      count += count_bits(bits_at(bits, at, args.row_bytes));
    }
  }
  args.starts[args.rows] = count;
}

void run(const BitmapValuesArgs& args, const ExecutionOptions&) {
  by_dtype(args.dtype, [&]<class T>() {
    const auto* from = static_cast<const T*>(args.weight);
    auto* value = static_cast<T*>(args.values);
    const std::uint8_t* bits = args.bits;
    for (std::int64_t row = 0; row < args.rows; ++row, bits += args.row_bytes()) {
      for (std::int64_t at = 0; at < args.row_bytes(); at += 8) {
        for_each_bit(bits_at(bits, at, args.row_bytes()),
                     [&](int bit) { *value++ = from[8 * at + bit]; });
      }
      from += args.columns;
    }
  });
}

void run(const BitmapUnpackArgs& args, const ExecutionOptions&) {
  const MaskedMatrix& matrix = args.matrix;
  by_dtype(matrix.dtype, [&]<class T>() {
    const auto* value = static_cast<const T*>(matrix.values);
    auto* dense = static_cast<T*>(args.dense);
    const std::uint8_t* bits = matrix.bits;
    for (std::int64_t row = 0; row < matrix.rows; ++row, bits += matrix.row_bytes()) {
      std::fill_n(dense, matrix.columns, T{});
      for (std::int64_t at = 0; at < matrix.row_bytes(); at += 8) {
        for_each_bit(bits_at(bits, at, matrix.row_bytes()),
                     [&](int bit) { dense[8 * at + bit] = *value++; });
      }
      dense += matrix.columns;
    }
  });
}

}  // namespace strop::linear
