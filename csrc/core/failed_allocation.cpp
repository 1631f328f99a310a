#include "core/failed_allocation.h"

#include <utility>

namespace strop {
namespace {

thread_local FailedAllocation last_failed;

}  // namespace

void leave_failed_allocation(FailedAllocation failed) { last_failed = std::move(failed); }

FailedAllocation take_failed_allocation() { return std::exchange(last_failed, {}); }

}  // namespace strop
