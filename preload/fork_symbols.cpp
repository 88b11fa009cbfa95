// What pthread_atfork, which is linked into each library and program, calls in glibc. A library may
// register handlers before anything allocates, and have them wait for a thread that does, as
// OpenBLAS's wait for its threads. Handlers prepare a fork last first, and ours take every lock: so
// they must be registered before any other. Not for the static libraries, where libc's own function
// may be linked too.
#include <dlfcn.h>
#include <errno.h>

#include <atomic>

#include "runtime/fork.h"

#define TALLY_EXPORT __attribute__((visibility("default"), used))

extern "C" {

// NOLINTNEXTLINE(readability-identifier-naming)
TALLY_EXPORT int __register_atfork(void (*prepare)(), void (*parent)(), void (*child)(),
                                   void* library) noexcept {
  // Found for our own handlers, which come here too, while there is one thread: the linker has a
  // lock.
  using Function = decltype(__register_atfork);
  static constinit std::atomic<Function*> g_next{nullptr};
  tally::core::have_fork_handlers();
  Function* next = g_next.load(std::memory_order_relaxed);
  if (next == nullptr) {
    next = reinterpret_cast<Function*>(dlsym(RTLD_NEXT, "__register_atfork"));
    g_next.store(next, std::memory_order_relaxed);
  }
  return next == nullptr ? ENOMEM : next(prepare, parent, child, library);
}

}  // extern "C"
