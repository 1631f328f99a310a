#include "cpu/sparse.h"

#include <pybind11/stl.h>

#include "kernels/argument_error.h"
#include "kernels/sparse_arguments.h"
#include "python/array_view.h"
#include "python/sparse.h"
#include "reference/sparse.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop {
namespace {

constexpr const char* kOp = "strop.sparse_linear";

py::array_t<std::uint8_t> build(const py::object& weight, const py::object& mask,
                                const std::string& name) {
  const ArrayView from("strop.pack_sparse", "weight", weight, false);
  const ArrayView keep("strop.pack_sparse", "mask", mask, false);
  const TensorView view = from.view();
  check_pack_sparse("strop.pack_sparse", view, keep.view());
  const LayoutChoice choice = layout_named("strop.pack_sparse", name);
  if (view.dtype == DType::kFloat64 && choice != LayoutChoice::kMask) {
    throw_type_error("strop.pack_sparse: values of float64 have the layout mask alone");
  }
  std::vector<std::uint8_t> bits(
      static_cast<std::size_t>(view.shape[0] * ((view.shape[1] + 7) / 8)));
  const std::int64_t count = cpu::kept_bits(view, keep.view(), bits.data());
  std::vector<std::uint8_t> values(static_cast<std::size_t>(count * dtype_size(view.dtype)));
  write_values(view, bits.data(), values.data());
  const SparseMatrix matrix = {view.dtype,  view.shape[0], view.shape[1],
                               bits.data(), values.data(), count};
  const std::vector<std::uint8_t> layout = build_layout(matrix, choice);
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(layout.size()), layout.data());
}

void check_matrix(const py::object& bits, const py::object& values, std::int64_t columns) {
  const char* op = "strop.SparseWeight";
  const ArrayView of_bits(op, "bits", bits, false), of_values(op, "values", values, false);
  checked_matrix(op, of_bits.view(), of_values.view(), columns);
}

void check(const py::object& layout, std::int64_t rows, std::int64_t columns) {
  const ArrayView view("strop.SparseWeight", "layout", layout, false);
  check_sparse_layout("strop.SparseWeight", view.view(), rows, columns);
}

// Whoever runs it: the kernels, or the oracle.
template <void (*kRun)(const SparseLinearArgs&)>
py::object multiply(const py::object& x, const py::object& layout, const py::object& bias,
                    const std::string& activation) {
  const ArrayView views[] = {
      {kOp, "input", x, false}, {kOp, "layout", layout, false}, {kOp, "bias", bias, false}};
  SparseLinearTensors tensors = {views[0].view(), views[1].view(), views[2].view(), {}};
  check_layout_header(kOp, tensors.layout);
  check_sparse_linear(kOp, tensors);
  if (!is_contiguous(tensors.x)) throw_value_error(kOp, ": input is not contiguous");
  if (bias && !bias.is_none() && !is_contiguous(tensors.bias)) {
    throw_value_error(kOp, ": bias is not contiguous");
  }
  std::vector<std::int64_t> shape(tensors.x.shape, tensors.x.shape + tensors.x.dims);
  shape.back() = static_cast<const LayoutHeader*>(tensors.layout.data)->rows;
  py::object result =
      py::module_::import("numpy").attr("empty")(shape, dtype_name(tensors.x.dtype));
  const ArrayView to(kOp, "out", result, true);
  tensors.y = to.view();
  const SparseLinearArgs args = sparse_linear_args(tensors, activation_named(kOp, activation));
  {
    const py::gil_scoped_release release;
    kRun(args);
  }
  return result;
}

void run_kernels(const SparseLinearArgs& args) { cpu::sparse_linear(args, Parallel{}); }

}  // namespace

void bind_sparse(py::module_& root, py::module_& cpu, py::module_& reference) {
  root.def("sparse_layout", &build, "A layout of a dense weight.", "weight"_a, "mask"_a, "name"_a);
  root.def("check_sparse_matrix", &check_matrix,
           "Raises where bits, values and columns do not fit each other.", "bits"_a, "values"_a,
           "columns"_a);
  root.def("check_sparse_layout", &check, "Raises where a layout's indices do not fit its shape.",
           "layout"_a, "rows"_a, "columns"_a);
  cpu.def("sparse_linear", &multiply<run_kernels>,
          "strop.sparse_linear over numpy arrays, on the instruction set in force.", "input"_a,
          "layout"_a, "bias"_a = py::none(), "activation"_a = "");
  reference.def("sparse_linear", &multiply<reference::sparse_linear>,
                "strop.sparse_linear over numpy arrays, by the reference loop; the layout is mask.",
                "input"_a, "layout"_a, "bias"_a = py::none(), "activation"_a = "");
}

}  // namespace strop
