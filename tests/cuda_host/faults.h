#pragma once

#include <string>
#include <vector>

namespace strop::cuda_host {

// Runs a kernel of faults.cu on inputs 0, 1, 2...; the workspace's first number, as a float, of the
// one that has no fault to throw, only an order. Not while another grid runs.
float run_case(const std::string& name);
std::vector<std::string> case_names();

}  // namespace strop::cuda_host
