#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/cuda/launch.h"
#include "cuda_host/shadow.h"

namespace strop::cuda_host {

// One dimension of an array: elements, and the step between them in elements.
struct ArrayDim {
  std::int64_t size;
  std::int64_t step;
};

enum class Use {
  kInput,    // a kernel may not write to it
  kUpdate,   // has a content, may be written to
  kOutput,   // has none, and every element has to be written
  kScratch,  // has none, may be written to
};

struct Array {
  std::string name;
  const void* data;  // nullptr: not there
  std::size_t item_bytes;
  std::vector<ArrayDim> dims;
  Use use;
};

// A call's arrays in device memory, each at an address that is as aligned as its own. Arrays that
// share memory share it there. Only the bytes of elements may be touched.
class DeviceArrays {
 public:
  DeviceArrays() = default;
  DeviceArrays(const DeviceArrays&) = delete;
  ~DeviceArrays();

  void add(Array array);
  // Uninitialised memory that is not the caller's.
  void* scratch(const std::string& name, std::size_t bytes);

  // Copies what the arrays hold.
  void upload();
  // Where an array of the caller's is on the device.
  template <class T>
  T* at(T* host) const {
    return const_cast<T*>(static_cast<const T*>(place(host)));
  }
  // Copies back what was written. Throws a Fault where an output's element was not.
  void download();

 private:
  struct Range {
    std::uintptr_t begin;
    std::uintptr_t end;
    std::string name;
    Region* region;
  };

  const void* place(const void* host) const;
  const Range& range_of(std::uintptr_t host) const;

  std::vector<Array> arrays_;
  std::vector<const void*> empty_;
  std::vector<Range> ranges_;  // of the host; apart from each other
  std::vector<Region*> scratch_;
};

// A kernel from rows of bytes to rows of bytes, `from` and `to` of them each.
template <class Rows>
void run_byte_rows(Rows rows, std::int64_t from, std::int64_t to, const Launch& on) {
  DeviceArrays arrays;
  arrays.add({"input", rows.from, 1, {{rows.rows * from, 1}}, Use::kInput});
  arrays.add({"output", rows.to, 1, {{rows.rows * to, 1}}, Use::kOutput});
  arrays.upload();
  rows.from = arrays.at(rows.from);
  rows.to = arrays.at(rows.to);
  run(rows, on);
  arrays.download();
}

}  // namespace strop::cuda_host
