// The life of the process: the first use, the constructor, fork, and the end.
#include <string.h>

#include <atomic>

#include "backend/backend.h"
#include "base/check.h"
#include "base/options.h"
#include "base/text.h"
#include "heap/callers.h"
#include "heap/guard_report.h"
#include "heap/large.h"
#include "heap/last_look.h"
#include "heap/purge.h"
#include "heap/thread.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "memory/span.h"
#include "os/libc.h"
#include "os/os.h"
#include "runtime/fork.h"
#include "runtime/limit_options.h"
#include "runtime/options.h"
#include "runtime/parse.h"
#include "runtime/recorder.h"
#include "runtime/report.h"
#include "runtime/tag_options.h"
#include "sample/profile.h"

namespace tally::core {
namespace {

constexpr int kExConfig = 78;  // as in sysexits.h

constinit int64_t g_process = 0;  // as libc knows it

// ---- fork. The child must find every table whole, so the forking thread takes every lock first,
// in the order in which they nest: tags, threads, each thread's own, reports on guarded blocks, the
// profile, guarded places, central, limits, metadata, the profile's names.
//
// A fork in a signal handler may have interrupted this thread with one of them in hand, and then
// meets the others out of order. So other forks, which wait for that one, give way to it; and
// should a thread in the midst of a step wait for it, with an earlier one in hand, the fork goes on
// without that one after a while: the child, which mostly does little but exec, may then find a
// table in the midst of a change.

template <class Step>
void for_each_lock(Step step) {
  step(tags_lock);
  step(threads_lock);
  for (Thread* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next_thread) {
    step(thread->lock);
  }
  step(guard_report_lock);
  step(profile.lock);
  step(guarded::lock);
  step(central);
  step(limits_lock);
  step(meta::lock);
  step(profile.names().lock);
}

// A backend may have handlers too, which take its locks; ours come before those, so that nobody who
// has one of ours waits for one of its. So the handlers are registered again when such a one was
// chosen, and then the outer pair is the one that counts. Not for libc's malloc, whose locks fork
// itself takes, after all handlers.
constinit thread_local unsigned t_forks = 0;

constinit std::atomic<uint32_t> g_interrupting{0};  // forks with a lock in hand

bool holds_a_lock() {
  bool any = false;
  for_each_lock([&](const Lock& lock) { any |= lock.held_by_me(); });
  return any;
}

void give_locks_back() {
  for_each_lock([](Lock& lock) { lock.release_after_fork(); });
  os::let_go_of_streams();
}

bool take_all_locks() {
  os::hold_streams();
  bool all = true;
  for_each_lock([&](Lock& lock) {
    all = all && lock.acquire_for_fork([] { return g_interrupting.load() != 0; });
  });
  return all;
}

// The streams' lock it waits for as libc's own fork would.
void take_locks_that_can_be_had() {
  uint32_t patience = 50;  // ms, for all together
  os::hold_streams();
  for_each_lock(
      [&](Lock& lock) { lock.acquire_for_fork([&] { return patience == 0 || --patience == 0; }); });
}

void before_fork() {
  if (t_forks++ != 0) return;
  Lock::begin_fork();
  if (holds_a_lock()) {
    g_interrupting.fetch_add(1);
    take_locks_that_can_be_had();
  } else {
    while (!take_all_locks()) {
      give_locks_back();
      while (g_interrupting.load() != 0) os::sleep_ms(1);
    }
  }
  Lock::hold_all(true);
}

void after_fork_in_parent() {
  if (--t_forks != 0) return;
  Lock::hold_all(false);
  give_locks_back();
  if (holds_a_lock()) g_interrupting.fetch_sub(1);
  Lock::end_fork();
}

void after_fork_in_child() {
  if (--t_forks != 0) return;
  // The other threads are gone. What they wrote without a lock may be torn, so their heaps stay as
  // they are: nobody allocates from them, blocks are freed to them as ever, and a slab whose last
  // block comes back is released.
  TagReader::forget_all();
  forget_other_threads_at_limits();
  g_interrupting.store(0);
  Lock::hold_all(false);
  const bool had_central = central.held_by_me();
  for_each_lock([](Lock& lock) { lock.reset_after_fork(); });
  forget_others_moves();
  recount_waiting();
  // Unless its tables are in the midst of a change, or what is in hand may be this thread's own.
  if (had_central && !central.held_by_me() && !Purging::is_under_way()) {
    recover_slots();
    recover_spans();
  }
  os::reset_streams();
  profile.after_fork();
  tls.thread->for_each_heap([](Heap* heap) { heap->sampling.random = 0; });
  g_process = os::process_id();
  let_go_of_stderr();
  let_go_of_record();
  Lock::end_fork();
}

void register_fork_handlers() {
  os::set_fork_hooks(before_fork, after_fork_in_parent, after_fork_in_child);
}

void choose_backend() {
  Backend* backend = backend::find(options.backend);
  if (backend == &backend::os) return;
  if (backend->is_loaded()) {
    backend::select(backend);
    if (backend != &backend::libc) register_fork_handlers();
    return;
  }
  char reason[256];
  TextWriter out(reason, sizeof reason - 1);
  out.put("not loaded with the program: ").put(backend->how_to_load).put("; os instead");
  reason[out.used()] = 0;
  complain("TALLY_BACKEND=", {backend->name, strlen(backend->name)}, reason);
}

// The rule of tags is to hold from the first block. Where that is before libc has the environment,
// or before modules can be found, it holds from the constructor on.
constinit bool g_has_options = false;

void have_options(bool is_constructor) {
  if (g_has_options || os::environment() == nullptr) return;
  if (!is_constructor && !os::finds_modules_early()) return;
  g_has_options = true;
  read_options();
  start_tag_rule();
  profile.start(options.sample);
}

void guard_samples() {
  if (start_guarding(options.guard)) return;
  complain("TALLY_GUARD", {"", 0},
           "no sample is guarded, as the system refuses the addresses for that");
}

// Two in one process, as the hardened one before a program that is linked to the other: all calls
// go to the first, and the other has nothing to tell.
extern "C" {
__attribute__((visibility("default"))) extern const char tally_api_anchor;  // of the first
__attribute__((visibility("hidden"))) extern const char tally_own_anchor;   // api/tally_api.cpp
}
bool is_shadowed() {
  const char* first = &tally_api_anchor;
  asm("" : "+r"(first));  // compilers know that two names are two objects
  return first != &tally_own_anchor;
}

// 101 is the first priority that is not the implementation's: options hold before other
// constructors run.
__attribute__((constructor(101))) void on_load() {
  if (is_shadowed()) return;
  g_process = os::process_id();
  have_options(true);
  if (options.tag_by != TagBy::kNone) tls.heap = &empty_heap;  // what is at hand may be the root's
  if (is_by_module()) check_by_module();
  choose_backend();
  apply_limits();
  guard_samples();
  if (options.abort_conf && has_complained()) os::exit_process(kExConfig);
  prepare_report();
  RunningThread first;  // so that nothing of ours is left to do in the middle of the program
  prepare_dumps();
  start_recorder();
}

// Not in the child of a vfork or of a clone behind libc's back, to which it is another process that
// allocates; nor if nobody could be told, as many programs close stderr before they end.
bool may_tell_at_end() { return os::process_id() == g_process && program_stderr() == 2; }

__attribute__((destructor(101))) void on_unload() {
  if (is_shadowed()) return;
  report_at_exit();
  look_at_end(may_tell_at_end);  // which may end it
  end_record();
}

}  // namespace

void on_first_use() {
  if constexpr (kHardened) hardened::start();
  have_options(false);
  start_threads();
  register_fork_handlers();
}

void have_fork_handlers() {
  if (!is_shadowed()) RunningThread first;
}

}  // namespace tally::core
