#include "core/numpy/array_view.h"

#include "core/argument_error.h"

namespace py = pybind11;

namespace strop {

std::optional<DType> dtype_of_name(const std::string& name) {
  for (int i = 0; i < static_cast<int>(DType::kOther); ++i) {
    if (name == dtype_name(static_cast<DType>(i))) return static_cast<DType>(i);
  }
  return std::nullopt;
}

ArrayView::ArrayView(const char* op, const char* name, const py::object& object, bool writes)
    : array_(object) {
  if (object.is_none()) return;
  if (!py::isinstance<py::array>(object)) {
    throw_type_error(op, ": ", name, " is a ",
                     py::str(py::type::of(object).attr("__name__")).cast<std::string>(),
                     "; a numpy array is needed");
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  view_.present = true;
  view_.dtype =
      dtype_of_name(array.dtype().attr("name").cast<std::string>()).value_or(DType::kOther);
  if (array.ndim() > kMaxDims) {
    throw_value_error(op, ": ", name, " has ", array.ndim(), " dimensions; at most ", kMaxDims,
                      " are supported");
  }
  if (writes && !array.writeable()) throw_value_error(op, ": ", name, " is read-only");
  view_.dims = static_cast<int>(array.ndim());
  view_.data = const_cast<void*>(array.data());
  const std::int64_t item = array.itemsize();
  if (reinterpret_cast<std::uintptr_t>(view_.data) % static_cast<std::uintptr_t>(item) != 0) {
    throw_value_error(op, ": ", name, " is not aligned to its ", item, "-byte elements");
  }
  for (int d = 0; d < view_.dims; ++d) {
    shape_[static_cast<std::size_t>(d)] = array.shape(d);
    stride_[static_cast<std::size_t>(d)] = array.strides(d) / item;
    if (array.strides(d) % item != 0 && array.shape(d) > 1) {
      throw_value_error(op, ": ", name, " has strides that are no multiple of its elements' size");
    }
  }
}

TensorView ArrayView::view() const {
  TensorView view = view_;
  view.shape = shape_.data();
  view.stride = stride_.data();
  return view;
}

}  // namespace strop
