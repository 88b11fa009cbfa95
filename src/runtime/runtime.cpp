// The life of the process: the first use, the constructor, fork, and the end.
#include "base/check.h"
#include "base/options.h"
#include "heap/thread.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "os/os.h"
#include "runtime/options.h"
#include "runtime/report.h"

namespace tally::core {
namespace {

// ---- fork. The child must find every table whole, so the forking thread takes every lock first,
// in the order in which they nest: tags, threads, each thread's own, central, metadata. A lock that
// this thread holds already (fork in a signal handler that interrupted us) stays as it is: the
// child returns into the interrupted step and ends it.

constinit bool g_had_tags, g_had_threads, g_had_own, g_had_central, g_had_meta;

void take(Lock& lock, bool* had) {
  *had = lock.held_by_me();
  if (!*had) lock.acquire();
}

void before_fork() {
  take(tags_lock, &g_had_tags);
  take(threads_lock, &g_had_threads);
  for (Thread* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next_thread) {
    if (thread == tls.thread) {
      take(thread->lock, &g_had_own);
    } else {
      thread->lock.acquire();
    }
  }
  take(central, &g_had_central);
  take(meta::lock, &g_had_meta);
  Lock::hold_all(true);
}

// `open` releases a lock, or resets it in the child.
template <class Open>
void open_all(Open open) {
  Lock::hold_all(false);
  if (!g_had_meta) open(meta::lock);
  if (!g_had_central) open(central);
  for (Thread* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next_thread) {
    if (thread != tls.thread || !g_had_own) open(thread->lock);
  }
  if (!g_had_threads) open(threads_lock);
  if (!g_had_tags) open(tags_lock);
}

void after_fork_in_parent() {
  open_all([](Lock& lock) { lock.release(); });
}

void after_fork_in_child() {
  // The other threads are gone. What they wrote without a lock may be torn, so their heaps stay as
  // they are: nobody allocates from them, blocks are freed to them as ever, and a slab whose last
  // block comes back is released.
  TagReader::count.store(0, std::memory_order_relaxed);
  open_all([](Lock& lock) { lock.reset(); });
}

void on_dump_signal(int /*signal*/) { dump_now(); }

// 101 is the first priority that is not the implementation's: options hold before other
// constructors run.
__attribute__((constructor(101))) void on_load() {
  read_options();
  prepare_report();
  RunningThread first;  // so that nothing of ours is left to do in the middle of the program
  if (options.dump_signal != 0) os::on_signal(options.dump_signal, on_dump_signal);
}

__attribute__((destructor(101))) void on_unload() { report_at_exit(); }

}  // namespace

void on_first_use() {
  os::set_fork_hooks(before_fork, after_fork_in_parent, after_fork_in_child);
  start_threads();
}

}  // namespace tally::core
