#pragma once

#include <string>

#include "core/dtype.h"

namespace strop {

// A dtype that is here to be named in an error alone, after DType::kOther; kOther for an unknown
// one.
DType dtype_named(const std::string& name);

}  // namespace strop
