#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace strop {

// Dimensions that a kernel takes. torch allows 64; nobody quantizes those.
inline constexpr int kMaxDims = 16;

// Somebody else's tensor: torch's or numpy's. Shape and strides (in elements, of any sign) stay
// where their owner keeps them.
struct TensorView {
  bool present = false;  // false: an optional argument that was not given
  DType dtype = DType::kOther;
  int dims = 0;
  int device = 0;  // equal for tensors on one device; above 0 where this process cannot read
  void* data = nullptr;
  const std::int64_t* shape = nullptr;
  const std::int64_t* stride = nullptr;

  std::int64_t numel() const;
};

// Whether the elements fill a stretch of memory, each of them once, in any order of dimensions; and
// whether that order is row-major.
bool is_dense(const TensorView& view);
bool is_contiguous(const TensorView& view);

// "[2, 3]"
std::string shape_text(const std::int64_t* shape, int dims);

// The shape, with another last size.
std::vector<std::int64_t> shape_with_last(const TensorView& view, std::int64_t size);

// How the elements of two tensors share memory.
enum class Overlap { kNone, kSame, kPartial };

// kSame: each element lies where the other's element of the same index does. kPartial also stands
// for layouts that cannot be told apart in a few steps: the answer errs on the safe side.
Overlap overlap(const TensorView& a, const TensorView& b);

// Whether two elements of one tensor may share memory (an expanded tensor, say).
bool overlaps_itself(const TensorView& view);

}  // namespace strop
