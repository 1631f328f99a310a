#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <sstream>
#include <string>

#include "core/argument_error.h"
#include "core/failed_allocation.h"
#include "core/kernel_sets.h"
#include "core/numpy/errors.h"
#include "library/families.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop {

#define STROP_DECLARE(family)                                                                      \
  namespace family {                                                                               \
  void bind_arrays(pybind11::module_& root, pybind11::module_& cpu, pybind11::module_& reference); \
  }
STROP_FAMILIES(STROP_DECLARE)
#undef STROP_DECLARE

namespace {

#define STROP_STRING_OF(x) #x
#define STROP_STRING(x) STROP_STRING_OF(x)

constexpr const char* kCompiler =
#if defined(__clang__)
    "clang++ " STROP_STRING(__clang_major__) "." STROP_STRING(__clang_minor__);
#else
    "g++ " STROP_STRING(__GNUC__) "." STROP_STRING(__GNUC_MINOR__);
#endif

py::dict build_info() {
  py::dict info;
  info["version"] = STROP_VERSION;
  info["compiler"] = kCompiler;
  info["isas"] = built_isas();
  info["torch_target"] = STROP_TORCH_TARGET;
  py::list architectures;  // of GPUs; empty where the CUDA kernels are not built
  std::istringstream names(STROP_CUDA_ARCHITECTURES);
  for (std::string name; std::getline(names, name, ',');) architectures.append(name);
  info["cuda_architectures"] = architectures;
  return info;
}

// The sets that a family has kernels of its own for.
py::dict isas_of_families() {
  py::dict sets;
  for (const Family& family : families()) {
    py::list own;
    for (int i = kIsaCount - 1; i >= 0; --i) {
      if (family.has_kernels(static_cast<Isa>(i))) own.append(std::string(kIsas[i].name));
    }
    sets[family.name] = own;
  }
  return sets;
}

void put_in_force(const std::optional<std::string>& name) { set_isa(name.value_or("")); }

// (kind, text) of this thread's last argument error, or None; see Note [One error text].
py::object take_argument_error() {
  const LastArgumentError last = take_last_argument_error();
  if (last.text.empty()) return py::none();
  const char* kind = last.kind == ArgumentError::Kind::kType ? "type" : "value";
  return py::make_tuple(kind, last.text);
}

// (text, shape, strides, bytes an element, GPU) of what this thread's last op could not allocate,
// or None; see Note [Failed allocations].
py::object take_failed() {
  const FailedAllocation failed = take_failed_allocation();
  if (failed.text.empty()) return py::none();
  return py::make_tuple(failed.text, failed.shape, failed.stride, failed.item, failed.gpu);
}

}  // namespace
}  // namespace strop

PYBIND11_MODULE(_C, m) {
  using namespace strop;
  m.doc() = "Instruction sets, build information, and every CPU kernel over numpy arrays.";
  register_errors();
  m.def(
      "isa", [] { return std::string(kIsas[static_cast<int>(active_isa())].name); },
      "The instruction set in force.");
  m.def("supported_isas", &supported_isas, "Instruction sets usable here, best first.");
  m.def(
      "isas_of_families", &isas_of_families,
      "By family, the instruction sets that it has kernels of its own for, best first; the others "
      "run those of the set that they extend.");
  m.def("set_isa", &put_in_force, "Puts an instruction set in force; None chooses anew.", "name"_a);
  m.def("self_test_failures", &self_test_failures,
        "Instruction sets that disagree with the oracle, and where.");
  m.def("build_info", &build_info, "How this library was built.");
  m.def("take_argument_error", &take_argument_error,
        "(kind, text) of this thread's last argument error, or None.");
  m.def("take_failed_allocation", &take_failed,
        "(text, shape, strides, bytes an element, GPU) of what could not be allocated, or None.");
  py::module_ cpu_module = m.def_submodule("cpu", "The kernels of the instruction set in force.");
  py::module_ reference_module = m.def_submodule("reference", "The oracle's plain loops.");
#define STROP_BIND(family) family::bind_arrays(m, cpu_module, reference_module);
  STROP_FAMILIES(STROP_BIND)
#undef STROP_BIND
}
