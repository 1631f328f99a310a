#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace strop::cuda_host {

// A place in the code: of a call, or of an access.
using CodeAddress = std::uintptr_t;

// What the symbol table of this library says of an address.
struct Object {
  std::uintptr_t begin = 0;
  std::size_t bytes = 0;  // 0: no object is there
  bool writable = false;
  bool local = false;  // a function's own
  std::string name;
};

Object object_at(std::uintptr_t address);

// Without the folders before it: "/a/b/c.cu" -> "c.cu".
std::string base_name(const std::string& path);

// Whether an address is in what this library holds of constants.
bool is_constant(std::uintptr_t address);

// "file.cuh:12 function <- file.cu:34 where_it_is_inlined", from the debugging information; slow.
std::string describe(CodeAddress address);

}  // namespace strop::cuda_host
