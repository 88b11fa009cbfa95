#include "heap/purge.h"

#include "backend/backend.h"
#include "base/math.h"
#include "base/options.h"
#include "heap/holes.h"
#include "heap/large.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "memory/chunk.h"
#include "memory/span.h"
#include "os/os.h"

namespace tally::core {
namespace {

constinit std::atomic<uint64_t> g_last{0};

// What waits for its purge is resident. Near a limit of the process's it goes at once, as the limit
// is to hold for what is resident too.
void purge_beyond_limit(uint64_t now) {
  if (meta::process.limit() == Account::kNoLimit) return;
  if (dirty_run_bytes() + kept_span_bytes() + waiting_bytes() <= meta::process.room()) return;
  purge_waiting(now, true);
  purge_runs(now, true);
  purge_spans(now, true);
}

}  // namespace

constinit std::atomic<uint32_t> purge_rounds{0};
constinit Moves shared_flushes;

namespace {

// A signal handler interrupted this thread in the midst of a step, which may be one that moves
// counts.
bool is_within_step() {
  Thread* thread = all_threads.load(std::memory_order_acquire);
  while (thread != nullptr && !thread->lock.held_by_me()) thread = thread->next_thread;
  return thread != nullptr;
}

}  // namespace

void await_moves() {
  constexpr int kPatienceMs = 20;  // who moves may get no processor for as long
  auto are_under_way = [] { return shared_flushes.is_under_way() || heap_moves.is_under_way(); };
  if (!are_under_way() || is_within_step()) return;
  for (int i = 0; i < kPatienceMs && are_under_way(); ++i) os::sleep_ms(1);
}

void forget_others_moves() {
  if (is_within_step()) return;
  shared_flushes.reset();
  heap_moves.reset();
}

void purge_tick() {
  uint64_t now = os::now_ms();
  on_tick(now);
  purge_beyond_limit(now);
  uint64_t last = g_last.load(std::memory_order_relaxed);
  if (now < last + options.purge_ms / 4 + 1 && options.purge_ms != 0) return;
  if (!g_last.compare_exchange_strong(last, now, std::memory_order_relaxed)) return;
  if (now != last) purge_rounds.fetch_add(1, std::memory_order_relaxed);
  constexpr unsigned kLookAt = 1024;
  for (Thread* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next_thread) {
    if (!thread->lock.try_acquire()) continue;
    // They have nobody else who would. What is in their hand is their own.
    if (is_shared(thread) && now != last) {
      look_at_idle_heaps(thread, 20000);
    }
    // Slabs that became empty and were kept, or whose last blocks came back by two threads at once,
    // so that neither saw it.
    release_all_empty(thread, kLookAt);
    give_tails(thread, now, false);
    thread->lock.release();
  }
  purge_waiting(now, false);
  purge_runs(now, false);
  purge_spans(now, false);
  backend::ask_surplus();
}

namespace {

size_t purge_all_of(bool mine, bool holes) {
  // With the thread's lock.
  auto may_flush = [mine, self = tls.thread](const Thread* thread) {
    return (mine && thread == self) || thread->orphan.load(std::memory_order_relaxed);
  };
  Thread* const newest = all_threads.load(std::memory_order_acquire);
  // All that is in hand first: it may be the last of another thread's slab.
  for (Thread* thread = newest; thread != nullptr; thread = thread->next_thread) {
    thread->lock.acquire();
    Block* foreign = may_flush(thread) ? flush_all(thread) : nullptr;
    thread->lock.release();
    give_foreign(foreign);
  }
  size_t purged = 0;
  for (Thread* thread = newest; thread != nullptr; thread = thread->next_thread) {
    LockGuard guard(thread->lock);
    release_all_empty(thread, ~0U);
    if (may_flush(thread) && holes) purged += dig_all_holes(thread);
    if (holes) purged += give_tails(thread, os::now_ms(), true);
  }
  purged += give_delayed();
  uint64_t now = os::now_ms();
  return purged + purge_runs(now, true) + purge_spans(now, true);
}

}  // namespace

size_t purge_all(bool mine) {
  size_t purged = purge_all_of(mine, true);
  backend::ask_surplus(true);
  return purged;
}

bool make_room() {
  const uint64_t given = runs_given();
  // Holes are for the system; addresses are what is missing here.
  size_t purged = purge_all_of(true, false);
  // Slots that are closed as they come free (hardened) have nothing for the purge.
  return hollow_chunks() || purged != 0 || runs_given() != given;
}

}  // namespace tally::core
