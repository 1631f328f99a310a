#include "core/argument_error.h"

#include <utility>

namespace strop {
namespace {

thread_local LastArgumentError last_error{ArgumentError::Kind::kValue, {}};

}  // namespace

ArgumentError::ArgumentError(Kind kind, const std::string& text)
    : std::runtime_error(text), kind_(kind) {
  last_error = {kind, text};
}

LastArgumentError take_last_argument_error() {
  return std::exchange(last_error, {ArgumentError::Kind::kValue, {}});
}

}  // namespace strop
