#include "linear/ops.h"

#include "core/numpy/call.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop::linear {
namespace {

template <class B>
constexpr ArrayOp<B> kLinearArrayOps[] = {
    {"packed_linear(input, layout, bias=None, activation='', isa='')", kPackedLinear,
     packed_linear_by_layout<NumpyCall<B>>},
};

constexpr ArrayOp<InForce> kLayoutOps[] = {
    {"codes_layout(codes, scale, zero_point=None, group, format, activations='', bits=None)",
     kPackWeight, codes_layout<NumpyCall<InForce>>},
};

// A layout of a dense weight, of any strides.
py::array_t<std::uint8_t> build(const py::object& weight, const py::object& mask,
                                const std::string& name) {
  const auto contiguous = [](const char* called, const py::object& array) {
    return ArrayView(kPackWeight, called,
                     py::module_::import("numpy").attr("ascontiguousarray")(array), false);
  };
  const ArrayView given(kPackWeight, "weight", weight, false);
  const ArrayView keep(kPackWeight, "mask", mask, false);
  check_pack_masked(kPackWeight, given.view(), keep.view());
  const LayoutChoice choice = layout_named(kPackWeight, name);
  check_layout_of(kPackWeight, choice, given.view().dtype);
  using Call = NumpyCall<InForce>;
  Arguments none("masked_layout()", {}, {});
  Call call(kPackWeight, none);
  std::optional<ArrayView> dense_mask;
  if (!mask.is_none()) dense_mask = contiguous("mask", mask);
  const Bitmap<Call> made = packed(call, contiguous("weight", weight), dense_mask);
  const std::vector<std::uint8_t> layout = build_layout(
      shaped_matrix(kPackWeight, view_of(made.bits), view_of(made.values), given.view().shape[1]),
      choice);
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(layout.size()), layout.data());
}

void check_matrix(const py::object& bits, const py::object& values, std::int64_t columns) {
  const ArrayView of_bits(kPackedWeight, "bits", bits, false);
  const ArrayView of_values(kPackedWeight, "values", values, false);
  checked_matrix(kPackedWeight, of_bits.view(), of_values.view(), columns);
}

void check(const py::object& layout, std::int64_t rows, std::int64_t columns) {
  const ArrayView view(kPackedWeight, "layout", layout, false);
  check_layout(kPackedWeight, view.view(), rows, columns);
}

}  // namespace

void bind_arrays(pybind11::module_& root, py::module_& cpu, py::module_& reference) {
  root.def("masked_layout", &build, "A layout of a dense weight.", "weight"_a, "mask"_a, "name"_a);
  root.def("check_masked_matrix", &check_matrix,
           "Raises where bits, values and columns do not fit each other.", "bits"_a, "values"_a,
           "columns"_a);
  root.def("check_layout", &check, "Raises where a layout's indices do not fit its shape.",
           "layout"_a, "rows"_a, "columns"_a);
  bind(cpu, kLayoutOps, "from which kernels multiply");
  bind(cpu, kLinearArrayOps<InForce>, "on the instruction set in force, in this thread");
  bind(reference, kLinearArrayOps<ByOracle>, "by the reference loop; the layout is mask");
}

}  // namespace strop::linear
