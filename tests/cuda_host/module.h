#pragma once

#include <pybind11/pybind11.h>

#include <mutex>

#include "core/cuda/launch.h"

namespace strop::cuda_host {

// One call's turn: one at a time runs. Has the GPU that it is to believe in: of another size at
// every turn, unless one is set, and with another order of its blocks.
class Turn {
 public:
  Turn();
  const Launch& launch() const { return launch_; }

 private:
  std::unique_lock<std::mutex> lock_;
  Launch launch_;
};

// Where an op of numpy's arrays runs: a turn of its own for every call of a family's function.
template <auto kRun>
struct OnHost {
  template <class Args>
  void operator()(const Args& args) const {
    const Turn turn;
    kRun(args, turn.launch());
  }
};

void bind_augment(pybind11::module_& module);
void bind_prune(pybind11::module_& module);
void bind_quantize(pybind11::module_& module);
void bind_linear(pybind11::module_& module);

}  // namespace strop::cuda_host
