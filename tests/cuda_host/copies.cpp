// Copies that go on while a thread does: each is kept until the thread waits for it, so that
// whoever does not wait finds what was there before.

#include <algorithm>

#include "cuda_host/grid.h"

namespace strop::cuda_host {

bool Grid::hold_copy(const Copy& copy) {
  const Inside inside(*this);
  const auto misaligned = [](const void* at) {
    return reinterpret_cast<std::uintptr_t>(at) % 4 != 0;
  };
  if (misaligned(copy.to) || misaligned(copy.from)) {
    fail("copies four bytes from or to where they are not aligned (misaligned)");
  }
  if ((random_() & 1) != 0) return false;
  copies_[number_of(current_)].open.push_back(copy);
  return true;
}

void Grid::commit_copies() {
  const Inside inside(*this);
  Copies& own = copies_[number_of(current_)];
  // Taken from the end: the first group, and in it the first copy, is the last one.
  std::reverse(own.open.begin(), own.open.end());
  own.groups.insert(own.groups.begin(), std::move(own.open));
  own.open.clear();
}

Copy Grid::take_copy(int groups) {
  const Inside inside(*this);
  auto& held = copies_[number_of(current_)].groups;
  while (held.size() > static_cast<std::size_t>(groups)) {
    if (held.back().empty()) {
      held.pop_back();
      continue;
    }
    const Copy copy = held.back().back();
    held.back().pop_back();
    return copy;
  }
  return {nullptr, nullptr, 0};
}

bool hold_copy(const Copy& copy) { return Grid::instance().hold_copy(copy); }
void commit_copies() { Grid::instance().commit_copies(); }
Copy take_copy(int groups) { return Grid::instance().take_copy(groups); }

}  // namespace strop::cuda_host
