#pragma once

#include <mutex>

namespace strop {

// Note [After a fork]
// A forked process has one thread, the one that forked, and whatever the others held stays as it
// was. A pool of threads waits for them forever there, torch's ops included. So a handler that the
// library registers when it is loaded notes whether there were others, and work is not shared from
// then on, in the child and in its own: each kernel runs on the thread that calls it. A process
// that forks before it has more threads loses nothing.
//
// What is made at the first use, and stays, is made under lasting_things(), for which a fork waits;
// the child has the lock, and lets it go.
bool lost_threads();

std::mutex& lasting_things();

}  // namespace strop
