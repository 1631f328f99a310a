#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace strop {

// What a caller did wrong. The text names the op, the argument, what was given and what is allowed.
//
// Note [One error text]
// Every argument is checked once, in C++, before anything is written. A raw op raises RuntimeError
// (all that a torch op can raise); the Python functions and the numpy bindings raise ValueError or
// TypeError with the same text. For that an ArgumentError leaves its kind and text behind in its
// thread, and the Python side asks for them where it caught a RuntimeError: the hot path pays
// nothing.
class [[gnu::visibility("default")]] ArgumentError : public std::runtime_error {
 public:
  enum class Kind { kValue, kType };
  ArgumentError(Kind kind, const std::string& text);
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

struct LastArgumentError {
  ArgumentError::Kind kind;
  std::string text;
};

// The last ArgumentError of this thread, forgotten by asking; the text is empty if there is none.
LastArgumentError take_last_argument_error();

template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void throw_value_error(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw ArgumentError(ArgumentError::Kind::kValue, text.str());
}

template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void throw_type_error(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw ArgumentError(ArgumentError::Kind::kType, text.str());
}

}  // namespace strop
