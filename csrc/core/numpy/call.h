#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/argument_error.h"
#include "core/check.h"
#include "core/execution.h"
#include "core/numpy/array_view.h"

namespace strop {

inline TensorView view_of(const ArrayView& array) { return array.view(); }
inline TensorView view_of(const std::optional<ArrayView>& array) {
  return array ? array->view() : TensorView{};
}

// The names in "op(a, b, c=None)", and the values of one call.
class Arguments {
 public:
  Arguments(const std::string& signature, const pybind11::args& args,
            const pybind11::kwargs& options);

  // None where it was not given.
  pybind11::object take(const char* name);
  bool has(const char* name) const { return left_.contains(name); }

 private:
  pybind11::dict left_;
};

// One call of an op over numpy arrays, its arguments by name: what TorchCall is for torch's.
template <class Backend>
class NumpyCall {
 public:
  using Tensor = ArrayView;
  static constexpr bool kInPlace = false;
  static constexpr bool kGiven = false;
  static constexpr bool kByName = true;

  NumpyCall(const char* op, Arguments& arguments) : op_(op), arguments_(arguments) {}

  ArrayView tensor(const char* name) {
    if (!arguments_.has(name)) throw_type_error(op_, ": ", name, " is missing");
    return {op_, name, arguments_.take(name), false};
  }
  std::optional<ArrayView> optional_tensor(const char* name) {
    return optional(name, arguments_.take(name), false);
  }
  std::vector<ArrayView> tensors(const char* name) {
    std::vector<ArrayView> arrays;
    for (const auto& each : option<std::vector<pybind11::object>>(name)) {
      arrays.emplace_back(op_, name, each, false);
    }
    return arrays;
  }
  template <class T>
  T option(const char* name) {
    return option<T>(name, T{});
  }
  template <class T, class Default>
  T option(const char* name, const Default& otherwise) {
    if (!arguments_.has(name)) return T(otherwise);
    const pybind11::object value = arguments_.take(name);
    try {
      return value.cast<T>();
    } catch (const pybind11::cast_error&) {
      const auto kind = pybind11::type::of(value).attr("__name__").cast<std::string>();
      throw_type_error(op_, ": ", name, " is a ", kind, ", which it cannot be");
    }
  }
  // None is torch's empty list.
  std::vector<std::int64_t> sizes(const char* name) {
    using Sizes = std::vector<std::int64_t>;
    return option<std::optional<Sizes>>(name).value_or(Sizes{});
  }
  // By its name, or what numpy takes for one.
  DType dtype(const char* name) {
    pybind11::object given = arguments_.take(name);
    if (given.is_none()) return DType::kFloat32;
    if (!pybind11::isinstance<pybind11::str>(given)) {
      given = numpy().attr("dtype")(given).attr("name");
    }
    const auto text = given.cast<std::string>();
    if (const std::optional<DType> known = dtype_of_name(text)) return *known;
    throw_value_error(op_, ": ", name, " is '", text, "', which is not the name of one");
  }
  std::pair<std::optional<double>, std::optional<ArrayView>> number_or_tensor(const char* name) {
    const pybind11::object value = arguments_.take(name);
    if (pybind11::isinstance<pybind11::float_>(value)) return {value.cast<double>(), std::nullopt};
    return {std::nullopt, optional(name, value, false)};
  }

  std::optional<ArrayView> out(const ArrayView&) {
    return optional("out", arguments_.take("out"), true);
  }
  // What an op of numpy's writes to beside its result.
  std::optional<ArrayView> optional_written(const char* name) {
    return optional(name, arguments_.take(name), true);
  }
  ArrayView empty_like(const ArrayView& array) {
    return {op_, "out", numpy().attr("empty_like")(array.object()), true};
  }
  // channels_last is torch's alone.
  ArrayView empty(const std::vector<std::int64_t>& shape, DType dtype, const ArrayView&,
                  bool = false) {
    return {op_, "out", numpy().attr("empty")(shape, dtype_name(dtype)), true};
  }
  ArrayView nothing(DType, const ArrayView&) { return {op_, "out", pybind11::none(), true}; }
  ArrayView contiguous(const char* name, const ArrayView& array) {
    check_contiguous(op_, {name, array.view()});
    return array;
  }
  ArrayView aligned(const char* name, const ArrayView& array, std::size_t bytes) {
    const auto first = reinterpret_cast<std::uintptr_t>(array.view().data);
    if (first % bytes != 0) throw_value_error(op_, ": ", name, " is not aligned");
    return array;
  }

  template <class Args>
  void run(const ArrayView&, const Args& args) {
    const pybind11::gil_scoped_release release;
    Backend()(args);
  }
  std::int64_t read(const ArrayView&, const std::int64_t* number) { return *number; }

  void give(const ArrayView& array) { results_.push_back(array.object()); }
  void give(const std::vector<ArrayView>& arrays) {
    pybind11::list list;
    for (const ArrayView& array : arrays) list.append(array.object());
    results_.push_back(list);
  }
  pybind11::object result() const {
    return results_.size() == 1 ? results_[0]
                                : pybind11::object(pybind11::tuple(pybind11::cast(results_)));
  }

 private:
  static pybind11::module_ numpy() { return pybind11::module_::import("numpy"); }
  std::optional<ArrayView> optional(const char* name, const pybind11::object& value, bool writes) {
    if (value.is_none()) return std::nullopt;
    return ArrayView(op_, name, value, writes);
  }

  const char* op_;
  Arguments& arguments_;
  std::vector<pybind11::object> results_;
};

// Where they run.
struct InForce {
  template <class Args>
  void operator()(const Args& args) const {
    run(args, ExecutionOptions{});
  }
};
struct ByOracle {
  template <class Args>
  void operator()(const Args& args) const {
    run(args, Oracle{});
  }
};

// A binding: the names of its arguments, the op's name in errors, and the function.
template <class Backend>
struct ArrayOp {
  const char* signature;  // "pack_mask(mask)"
  const char* op;         // "strop.pack_mask"
  void (*run)(NumpyCall<Backend>& call);
};

template <class Backend, std::size_t kCount>
void bind(pybind11::module_& module, const ArrayOp<Backend> (&ops)[kCount], const char* where) {
  for (const ArrayOp<Backend>& op : ops) {
    const std::string signature = op.signature;
    const std::string text = signature + "\n\n" + op.op + " over numpy arrays, " + where + ".";
    module.def(
        signature.substr(0, signature.find('(')).c_str(),
        [op](const pybind11::args& args, const pybind11::kwargs& options) {
          Arguments arguments(op.signature, args, options);
          NumpyCall<Backend> call(op.op, arguments);
          op.run(call);
          return call.result();
        },
        text.c_str());
  }
}

}  // namespace strop
