#include "core/forked.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace strop {
namespace {

std::atomic<bool> lost{false};
bool losing = false;  // whether the fork that is under way leaves threads behind
std::mutex lasting;

// As Linux counts them; where nobody does, there may be others.
bool has_other_threads() {
  const int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (file < 0) return true;
  char text[1024];
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return true;
  text[length] = '\0';
  // The number of threads is the eighteenth field after the name, which ends with the last ")".
  const char* field = std::strrchr(text, ')');
  for (int i = 0; i < 18 && field != nullptr; ++i) field = std::strchr(field + 1, ' ');
  return field == nullptr || std::atol(field) != 1;
}

void before_fork() {
  lasting.lock();
  losing = has_other_threads();
}
void in_parent() { lasting.unlock(); }
void in_child() {
  if (losing) lost.store(true, std::memory_order_relaxed);
  lasting.unlock();
}

[[maybe_unused]] const int registered = pthread_atfork(before_fork, in_parent, in_child);

}  // namespace

bool lost_threads() { return lost.load(std::memory_order_relaxed); }

std::mutex& lasting_things() { return lasting; }

}  // namespace strop
