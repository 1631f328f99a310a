// strop's CUDA kernels, compiled by the host's compiler, over numpy arrays. See README.md.

#include "cuda_host/module.h"

#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <random>

#include "core/numpy/errors.h"
#include "cuda_host/faults.h"
#include "cuda_host/grid.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace strop::cuda_host {
namespace {

std::mutex one_at_a_time;
std::mt19937_64 sizes;
std::optional<Launch> chosen;

// The size of the GPU and the seed of the orders of blocks, warps and lanes.
void set_launch(std::uint64_t seed, std::optional<int> multiprocessors, int blocks_each) {
  const std::lock_guard lock(one_at_a_time);
  Grid::instance().seed(seed);
  sizes.seed(seed);
  chosen.reset();
  if (!multiprocessors) return;
  chosen = Launch{};
  chosen->multiprocessors = *multiprocessors;
  chosen->blocks_each = blocks_each;
}

}  // namespace

Turn::Turn() : lock_(one_at_a_time) {
  if (chosen) {
    launch_ = *chosen;
    return;
  }
  launch_.multiprocessors = 1 + static_cast<int>(sizes() % 4);
  launch_.blocks_each = 1 + static_cast<int>(sizes() % 3);
}

PYBIND11_MODULE(_cuda_host, module) {
  module.doc() = "strop's CUDA kernels on the CPU, every access of theirs checked: for tests.";
  register_errors();
  module.def("set_launch", &set_launch,
             "Seeds the order in which blocks and threads run; fixes the size of the GPU, which is "
             "random otherwise.",
             "seed"_a, "multiprocessors"_a = py::none(), "blocks_each"_a = 8);
  bind_augment(module);
  bind_prune(module);
  bind_quantize(module);
  bind_linear(module);
  module.def(
      "run_case",
      [](const std::string& name) {
        const Turn turn;
        return run_case(name);
      },
      "Runs a kernel of faults.cu.", "name"_a);
  module.def("case_names", &case_names, "The kernels of faults.cu.");
}

}  // namespace strop::cuda_host
