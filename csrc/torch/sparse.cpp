#include "cpu/sparse.h"

#include <cstring>

#include "torch/sparse_ops.h"

namespace strop {
namespace {

struct Cpu {
  explicit Cpu(const Tensor&) {}
  void sparse_linear(const SparseLinearArgs& args) { cpu::sparse_linear(args, torch_threads()); }
  std::int64_t kept_bits(const TensorView& weight, const TensorView& mask, std::uint8_t* bits) {
    return cpu::kept_bits(weight, mask, bits);
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(strop, m) {
  const std::string linear = std::string("sparse_linear(") + kSparseLinearArguments + ") -> Tensor";
  m.def(linear.c_str());
  const std::string by_layout =
      "(Tensor input, Tensor layout, SymInt outputs, Tensor? bias, str activation";
  m.def(("_sparse_linear" + by_layout + ") -> Tensor").c_str());
  m.def(("_sparse_linear.out" + by_layout + ", *, Tensor(a!) out) -> ()").c_str());
  const std::string by_bits =
      "(Tensor input, Tensor bits, Tensor values, Tensor starts, Tensor? bias, str activation";
  m.def(("_sparse_linear_bits" + by_bits + ") -> Tensor").c_str());
  m.def(("_sparse_linear_bits.out" + by_bits + ", *, Tensor(a!) out) -> ()").c_str());
  m.def("_sparse_unpack(Tensor bits, Tensor values, Tensor starts, SymInt columns) -> Tensor");
  m.def(
      "_sparse_transposed(Tensor gradient, Tensor quads, Tensor pairs, SymInt columns) -> Tensor");
  m.def("pack_sparse(Tensor weight, Tensor? mask) -> (Tensor, Tensor)");
  m.def("unpack_sparse(Tensor bits, Tensor values, SymInt columns) -> Tensor");
  m.def("_sparse_layout(Tensor bits, Tensor values, int columns, str layout) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(strop, CPU, m) { SparseOps<Cpu>::implement(m); }

}  // namespace strop
