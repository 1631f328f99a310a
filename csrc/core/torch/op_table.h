#pragma once

#include <torch/csrc/stable/library.h>

#include <cstddef>
#include <string>

#include "core/torch/backends.h"
#include "core/torch/call.h"

namespace strop {

// An op: its schema, and what carries it out on one kind of device; nullptr where nothing does.
struct OpRow {
  const char* schema;
  void (*kernel)(StableIValue* values, std::uint64_t arguments, std::uint64_t results);
};

// A function of a Call, as torch calls it.
template <auto kOp>
struct Boxed;
template <class Call, void (*kOp)(Call&)>
struct Boxed<kOp> {
  static void run(StableIValue* values, std::uint64_t arguments, std::uint64_t) {
    Call call(values, arguments);
    kOp(call);
  }
};
template <auto kOp>
inline constexpr auto boxed = &Boxed<kOp>::run;

template <class Library, std::size_t kCount>
void define(Library& library, const OpRow (&rows)[kCount]) {
  for (const OpRow& row : rows) library.def(row.schema);
}

template <class Library, std::size_t kCount>
void implement(Library& library, const OpRow (&rows)[kCount]) {
  for (const OpRow& row : rows) {
    const std::string schema = row.schema;
    if (row.kernel != nullptr) library.impl(schema.substr(0, schema.find('(')).c_str(), row.kernel);
  }
}

}  // namespace strop

// STROP_OPS(rows): registers the ops of a table `template <class Backend> constexpr OpRow rows[]`.
// The source that says so is compiled for two libraries: one has the CPU's kernels and what checks
// without data, the other the GPU's. STROP_OPS_ON_DATA(rows) is for ops that have to see data.
// STROP_CPU_OR_GPU(cpu, gpu): which of two a row has; the other's code is not made.
#if defined(STROP_ON_CUDA)
#define STROP_CPU_OR_GPU(cpu, gpu) gpu
#define STROP_OPS_ON_DATA(rows) \
  STABLE_TORCH_LIBRARY_IMPL(strop, CUDA, m) { strop::implement(m, rows<strop::Cuda>); }
#define STROP_OPS(rows) STROP_OPS_ON_DATA(rows)
#else
#define STROP_CPU_OR_GPU(cpu, gpu) cpu
#define STROP_OPS_ON_DATA(rows)                                                   \
  STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) { strop::define(m, rows<strop::Cpu>); } \
  STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) { strop::implement(m, rows<strop::Cpu>); }
#define STROP_OPS(rows)                                                                     \
  STROP_OPS_ON_DATA(rows)                                                                   \
  STABLE_TORCH_LIBRARY_FRAGMENT(strop_shapes, m) { strop::define(m, rows<strop::NoData>); } \
  STABLE_TORCH_LIBRARY_IMPL(strop_shapes, Meta, m) { strop::implement(m, rows<strop::NoData>); }
#endif
