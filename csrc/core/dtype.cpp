#include "core/dtype.h"

#include <cstddef>
#include <iterator>

#include "core/dtype_named.h"

namespace strop {
namespace {

constexpr const char* kOthers[] = {"an unsupported dtype",
                                   "complex32",
                                   "float8_e4m3fn",
                                   "float8_e4m3fnuz",
                                   "float8_e5m2",
                                   "float8_e5m2fnuz",
                                   "float8_e8m0fnu",
                                   "float4_e2m1fn_x2",
                                   "int1",
                                   "int2",
                                   "int3",
                                   "int4",
                                   "int5",
                                   "int6",
                                   "int7",
                                   "uint1",
                                   "uint2",
                                   "uint3",
                                   "uint4",
                                   "uint5",
                                   "uint6",
                                   "uint7",
                                   "bits1x8",
                                   "bits2x4",
                                   "bits4x2",
                                   "bits8",
                                   "bits16"};

constexpr auto kFirstOther = static_cast<std::size_t>(DType::kOther);

}  // namespace

DType dtype_named(const std::string& name) {
  for (std::size_t i = 1; i < std::size(kOthers); ++i) {
    if (name == kOthers[i]) return static_cast<DType>(kFirstOther + i);
  }
  return DType::kOther;
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    case DType::kFloat64:
      return "float64";
    case DType::kUInt8:
      return "uint8";
    case DType::kInt8:
      return "int8";
    case DType::kUInt16:
      return "uint16";
    case DType::kInt16:
      return "int16";
    case DType::kUInt32:
      return "uint32";
    case DType::kInt32:
      return "int32";
    case DType::kUInt64:
      return "uint64";
    case DType::kInt64:
      return "int64";
    case DType::kBool:
      return "bool";
    case DType::kComplex64:
      return "complex64";
    case DType::kComplex128:
      return "complex128";
    default:
      const std::size_t other = static_cast<std::size_t>(dtype) - kFirstOther;
      return kOthers[other < std::size(kOthers) ? other : 0];
  }
}

int dtype_size(DType dtype) {
  switch (dtype) {
    case DType::kUInt8:
    case DType::kInt8:
    case DType::kBool:
      return 1;
    case DType::kBFloat16:
    case DType::kFloat16:
    case DType::kUInt16:
    case DType::kInt16:
      return 2;
    case DType::kFloat32:
    case DType::kUInt32:
    case DType::kInt32:
      return 4;
    case DType::kFloat64:
    case DType::kUInt64:
    case DType::kInt64:
    case DType::kComplex64:
      return 8;
    case DType::kComplex128:
      return 16;
    default:
      return 0;
  }
}

}  // namespace strop
