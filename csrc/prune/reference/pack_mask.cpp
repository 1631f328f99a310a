#include "prune/pack_mask.h"

#include <algorithm>

namespace strop::prune {

void run(const PackMaskArgs& rows, Oracle) {
  const auto* from = static_cast<const std::uint8_t*>(rows.from);
  auto* to = static_cast<std::uint8_t*>(rows.to);
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    for (std::int64_t i = 0; i < rows.bytes(); ++i) {
      int byte = 0;
      for (std::int64_t j = 8 * i; j < std::min(8 * i + 8, rows.count); ++j) {
        if (from[row * rows.count + j] != 0) byte |= 1 << j % 8;
      }
      to[row * rows.bytes() + i] = static_cast<std::uint8_t>(byte);
    }
  }
}

void run(const UnpackMaskArgs& rows, Oracle) {
  const auto* from = static_cast<const std::uint8_t*>(rows.from);
  auto* to = static_cast<std::uint8_t*>(rows.to);
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    for (std::int64_t i = 0; i < rows.count; ++i) {
      to[row * rows.count + i] = from[row * rows.bytes() + i / 8] >> i % 8 & 1;
    }
  }
}

}  // namespace strop::prune
