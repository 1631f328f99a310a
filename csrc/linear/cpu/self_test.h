#pragma once

#include <string>

#include "core/isa.h"

namespace strop::linear::cpu {

// Products of codes against the oracle. Empty: all agree; else what differed.
std::string self_test_codes(Isa isa);

}  // namespace strop::linear::cpu
