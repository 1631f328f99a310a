#pragma once

// Elements of a dtype that is known at run time, where speed is not the point.

#include "core/cuda/vector.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;

template <class Number>
__device__ __forceinline__ Number number_at(const void* data, DType dtype, std::int64_t at) {
  switch (dtype) {
    case DType::kBFloat16:
      return static_cast<Number>(widened(static_cast<const BFloat16*>(data)[at]));
    case DType::kFloat16:
      return static_cast<Number>(widened(static_cast<const Float16*>(data)[at]));
    case DType::kFloat64:
      return static_cast<Number>(static_cast<const double*>(data)[at]);
    case DType::kUInt8:
      return static_cast<Number>(static_cast<const std::uint8_t*>(data)[at]);
    default:
      return static_cast<Number>(static_cast<const float*>(data)[at]);
  }
}

// Of floating dtypes.
template <class Number>
__device__ __forceinline__ void put_number(void* data, DType dtype, std::int64_t at,
                                           Number number) {
  switch (dtype) {
    case DType::kBFloat16:
      static_cast<BFloat16*>(data)[at] = FromFloat<BFloat16>::call(static_cast<float>(number));
      return;
    case DType::kFloat16:
      static_cast<Float16*>(data)[at] = FromFloat<Float16>::call(static_cast<float>(number));
      return;
    case DType::kFloat64:
      static_cast<double*>(data)[at] = static_cast<double>(number);
      return;
    default:
      static_cast<float*>(data)[at] = static_cast<float>(number);
  }
}

}  // namespace strop::augment::cuda
