#include "heap/thread.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/math.h"
#include "base/preempt.h"
#include "heap/callers.h"
#include "heap/purge.h"
#include "heap/relief.h"
#include "heap/slab_lists.h"
#include "heap/slab_ops.h"
#include "memory/meta.h"
#include "os/os.h"

namespace tally::core {

namespace {

// Owners of nothing: before a thread's first slow call, and after its end.
constinit Heap* g_no_heaps[1] = {nullptr};
constinit Thread g_not_yet(g_no_heaps, nullptr);
constinit Thread g_gone(g_no_heaps, &g_not_yet);

constinit meta::Pool<Heap> g_heap_pool;
constinit Thread* g_orphans = nullptr;  // under threads_lock
constinit std::atomic<bool> g_used{false};

}  // namespace

constinit Heap empty_heap = {};
constinit thread_local ThreadState tls = {&empty_heap, &g_not_yet};
constinit std::atomic<Heap*> all_heaps{nullptr};
constinit Thread commons(&g_gone);
constinit Thread sampled(&commons);
// With those, as whoever holds a lock of theirs is in the middle of a step that a fork waits
// for.
constinit std::atomic<Thread*> all_threads{&sampled};
constinit Moves heap_moves;
constinit Lock threads_lock;

namespace {

// ---- Threads.

Thread* new_thread() {
  auto* thread = static_cast<Thread*>(meta::allocate_forever(sizeof(Thread)));
  if (thread == nullptr) return nullptr;
  thread->buckets = thread->inline_buckets;
  thread->callers = &no_callers;
  thread->bucket_mask = Thread::kInlineBuckets - 1;
  thread->next_thread = all_threads.load(std::memory_order_relaxed);
  all_threads.store(thread, std::memory_order_release);
  return thread;
}

void leave_scopes(Thread* thread) {
  thread->tag = root_tag();
  thread->scope = nullptr;
  thread->depth = 0;
  thread->has_name = false;
  thread->name_steps = 0;
}

// Model, of this and give_thread: tests/model/thread_model.cpp. An orphan to continue with, its
// heaps and slabs and all; else a new one.
Thread* take_thread() {
  LockGuard guard(threads_lock);
  Thread* thread = g_orphans;
  if (thread == nullptr) {
    thread = new_thread();
    if (thread == nullptr) return nullptr;
  } else {
    g_orphans = thread->next_orphan;
    // Under its lock, which who takes slabs from orphans holds: from here on the slabs are ours.
    LockGuard own(thread->lock);
    thread->orphan.store(false, std::memory_order_relaxed);
  }
  leave_scopes(thread);
  return thread;
}

// The heaps keep what is live; what is in hand goes back, and empty slabs, unless they stay.
void give_thread(Thread* thread) {
  Block* foreign = nullptr;
  {
    LockGuard guard(thread->lock);
    foreign = flush_all(thread);
    if constexpr (!kOrphansKeep) release_all_empty(thread, ~0U);
    leave_scopes(thread);
  }
  give_foreign(foreign);
  drop_retired_heaps(thread);
  at_point("thread: flushed");
  LockGuard guard(threads_lock);
  LockGuard own(thread->lock);
  thread->orphan.store(true, std::memory_order_seq_cst);
  at_point("thread: an orphan");
  thread->next_orphan = g_orphans;
  g_orphans = thread;
  // Whoever pushed before that did not see it; whoever pushes now does.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  look_at_woken(thread);
}

void on_thread_exit() {
  Thread* thread = tls.thread;
  tls.heap = &empty_heap;
  tls.thread = &g_gone;
  if (thread != &g_not_yet && thread != &g_gone) give_thread(thread);
  settle_limits();
}

// ---- Heaps of a thread.

void insert(Thread* thread, Heap* heap) {
  Heap*& bucket = thread->buckets[heap->tag_id & thread->bucket_mask];
  heap->next_in_thread = bucket;
  bucket = heap;
}

// Keeps the chains short. Without memory they grow longer, no more. Lock held, by the owner.
void grow_buckets(Thread* thread) {
  uint32_t size = (thread->bucket_mask + 1) * 4;
  auto** buckets = static_cast<Heap**>(meta::allocate(size * sizeof(void*)));
  if (buckets == nullptr) return;
  Heap** old = thread->buckets;
  uint32_t old_size = thread->bucket_mask + 1;
  thread->buckets = buckets;
  thread->bucket_mask = size - 1;
  for (uint32_t i = 0; i < old_size; ++i) {
    for (Heap* heap = old[i]; heap != nullptr;) {
      Heap* next = heap->next_in_thread;
      insert(thread, heap);
      heap = next;
    }
  }
  if (old != thread->inline_buckets) meta::release(old, old_size * sizeof(void*));
}

// Models: tests/model/tag_model.cpp, and of threads that do not run shared_model.cpp. A heap of
// this thread for the tag, which is live, or has blocks of which the caller holds one. No lock
// held.
Heap* make_heap(Thread* thread, Tag* tag, bool holds_block) {
  // The lock keeps the tag from becoming another one before the heap is bound to it.
  LockGuard tags(tags_lock);
  if (!holds_block && !tag->is_live()) return nullptr;
  if (is_shared(thread)) {
    // Another thread may have been first.
    LockGuard guard(thread->lock);
    if (Heap* heap = thread->find_heap(tag->id)) return heap;
  }
  Heap* heap = g_heap_pool.take();
  if (heap == nullptr) return nullptr;
  if (heap->thread.load(std::memory_order_relaxed) == nullptr) {
    LockGuard guard(threads_lock);
    heap->next_heap = all_heaps.load(std::memory_order_relaxed);
    all_heaps.store(heap, std::memory_order_release);
  }
  tag->heaps.fetch_add(1, std::memory_order_relaxed);
  at_point("heap: counted");
  LockGuard guard(thread->lock);
  heap->thread.store(thread, std::memory_order_relaxed);
  heap->tag_id = tag->id;
  heap->tag.store(tag, std::memory_order_release);
  if (++thread->heap_count > 2 * (thread->bucket_mask + 1)) grow_buckets(thread);
  insert(thread, heap);
  return heap;
}

// What malloc's fast path is to use. Where failures were asked for, or the caller decides, none:
// each call takes the slow one.
Heap* fast_heap(Heap* heap) {
  if (is_by_module()) return &by_caller;
  if (heap == nullptr) return &empty_heap;
  const Tag* tag = heap->tag.load(std::memory_order_relaxed);
  return TALLY_LIKELY(tag->fault() == nullptr) ? heap : &empty_heap;
}

bool in_scope(const Thread* thread, const Heap* heap) {
  if (thread->scope == heap) return true;
  for (uint32_t i = 0; i < thread->depth; ++i) {
    if (thread->outer[i] == heap) return true;
  }
  return false;
}

// Whether this slow step should look after heaps of retired tags.
bool time_to_drop(Thread* thread) {
  // The look takes a step for each heap.
  if (thread->retirements_seen == retirements.load(std::memory_order_relaxed)) return false;
  if (thread->drop_attempts-- != 0) return false;
  thread->drop_attempts = max_of(64U, thread->heap_count);
  return true;
}

// The heap is not needed, and goes unless something of it is left. Looks at so many slabs of a
// class for empty ones. Lock held.
bool drop_heap(Thread* thread, Heap* heap, unsigned look_at, Block** foreign) {
  *foreign = flush(heap, *foreign);
  release_empty(heap, look_at);
  if (heap->slabs != 0 || in_scope(thread, heap)) return false;
  retire_heap(thread, heap);
  return true;
}

}  // namespace

Block* look_at_idle_heaps(Thread* thread, uint64_t effort) {
  Block* foreign = nullptr;
  for (uint64_t spent = 0; spent < effort; ++spent) {
    Heap* next;
    for (Heap* heap = thread->buckets[thread->next_look]; heap != nullptr; heap = next) {
      next = heap->next_in_thread;
      uint64_t allocs = 0, in_hand = 0;
      for (unsigned c = 0; c < kClasses; ++c) {
        allocs += heap->classes[c].allocs.get();
        in_hand += heap->classes[c].handed.get() + heap->store[c].returns_count.get();
      }
      bool idle = allocs == heap->allocs_seen && !in_scope(thread, heap);
      heap->allocs_seen = allocs;
      spent += 20;
      if (!idle) continue;
      spent += in_hand - allocs;
      drop_heap(thread, heap, 16, &foreign);
    }
    if (thread->next_look++ != thread->bucket_mask) continue;
    thread->next_look = 0;
    thread->rounds_seen = purge_rounds.load(std::memory_order_relaxed);
    break;
  }
  return foreign;
}

bool is_up_to_date(const Thread* thread) {
  return options.tag_by != TagBy::kThread &&
         thread->retirements_seen == retirements.load(std::memory_order_relaxed) &&
         thread->rounds_seen == purge_rounds.load(std::memory_order_relaxed);
}

void start_threads() { os::set_thread_exit_hook(on_thread_exit); }

namespace {

// False: nobody will tell of its end. Of the first thread's somebody will once there are others.
// (Libc may allocate by our malloc, and come by here again.)
bool watch(Thread* thread) {
  thread->is_unwatched = false;
  const os::Armed armed = os::arm_thread_exit();
  thread->is_unwatched = armed != os::Armed::kYes;
  return armed != os::Armed::kNo;
}

}  // namespace

RunningThread::RunningThread() : thread_(tls.thread) {
  if (thread_ != &g_not_yet && thread_ != &g_gone) {
    if (thread_->is_unwatched && os::may_arm_thread_exit()) watch(thread_);
    if (is_up_to_date(thread_)) return;
    follow_name();
    if (time_to_drop(thread_)) drop_retired_heaps(thread_);
    if (thread_->rounds_seen == purge_rounds.load(std::memory_order_relaxed)) return;
    thread_->lock.acquire();
    Block* foreign = look_at_idle_heaps(thread_, 2000);
    thread_->lock.release();
    give_foreign(foreign);
    return;
  }
  if (!g_used.exchange(true, std::memory_order_relaxed)) on_first_use();
  borrowed_ = thread_ == &g_gone;
  // on_first_use may have allocated, through libc, and so have made the thread known.
  if (!borrowed_ && tls.thread != &g_not_yet) {
    thread_ = tls.thread;
    return;
  }
  thread_ = take_thread();
  if (thread_ == nullptr && make_room()) thread_ = take_thread();
  if (thread_ == nullptr) return;
  tls.heap = &empty_heap;
  tls.thread = thread_;
  // Of whose end nobody would know borrows too: what it held would be lost.
  if (!borrowed_ && !watch(thread_)) borrowed_ = true;
  follow_name();
}

RunningThread::~RunningThread() {
  if (!borrowed_ || thread_ == nullptr) return;
  tls.heap = &empty_heap;
  tls.thread = &g_gone;
  give_thread(thread_);
  settle_limits();
}

// A rename takes effect below the scopes that are open.
void RunningThread::follow_name() {
  if (options.tag_by != TagBy::kThread || !is_name_due(thread_)) return;
  Heap* heap = find_renamed_heap(*this);
  if (heap == nullptr) return;
  if (thread_->depth != 0) {
    thread_->outer[0] = heap;
    return;
  }
  thread_->scope = heap;
  thread_->tag = heap->tag.load(std::memory_order_relaxed);
  tls.heap = fast_heap(heap);
}

Heap* RunningThread::current_heap(const void* caller) const {
  if (is_by_module() && thread_->depth == 0) {
    tls.heap = &by_caller;
    return find_callers_heap(*this, caller);
  }
  Tag* tag;
  Heap* heap;
  do {
    tag = thread_->tag->nearest_live();
    heap = heap_if_live(tag);
  } while (heap == nullptr && !tag->is_live());  // retired since; the root never is
  if (heap == nullptr) return nullptr;
  tls.heap = fast_heap(heap);
  if (thread_->scope == nullptr) thread_->scope = heap;
  return heap;
}

Heap* RunningThread::heap_of_block(Tag* tag) const {
  Heap* heap = thread_->find_heap(tag->id);
  return heap != nullptr ? heap : make_heap(thread_, tag, true);
}

Heap* RunningThread::heap_if_live(Tag* tag) const {
  if (!tag->is_live()) return nullptr;
  Heap* heap = thread_->find_heap(tag->id);
  return heap != nullptr ? heap : make_heap(thread_, tag, false);
}

bool make_shared_heap(Thread& shared, Tag* tag) {
  {
    LockGuard guard(shared.lock);
    if (shared.find_heap(tag->id) != nullptr) return true;
  }
  return make_heap(&shared, tag, false) != nullptr;
}

namespace {

int enter_scope(Thread* thread, Heap* heap) {
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  if (TALLY_UNLIKELY(!tag->is_live())) return EINVAL;
  if (TALLY_UNLIKELY(thread->depth == kMaxScopes)) return ENOSPC;
  thread->outer[thread->depth++] = thread->scope;
  thread->scope = heap;
  thread->tag = tag;
  tls.heap = fast_heap(heap);
  return 0;
}

// The thread has no heap for the tag yet.
TALLY_NOINLINE int push_new_tag(uint32_t id) {
  Tag* tag = taking_tag(id);
  if (tag == nullptr) return EINVAL;
  RunningThread running;
  if (running.get() == nullptr) return ENOMEM;
  Heap* heap = running.heap_if_live(tag);
  if (heap == nullptr) return tag->is_live() ? ENOMEM : EINVAL;
  // Past its end a thread borrows its heaps for one call: a scope would outlive them.
  return running.is_borrowed() ? EINVAL : enter_scope(running.get(), heap);
}

}  // namespace

int push_tag(uint32_t id) {
  Heap* heap = tls.thread->find_heap(id);
  return TALLY_LIKELY(heap != nullptr) ? enter_scope(tls.thread, heap) : push_new_tag(id);
}

int pop_tag() {
  Thread* thread = tls.thread;
  if (TALLY_UNLIKELY(thread->depth == 0)) return EINVAL;
  Heap* heap = thread->outer[--thread->depth];
  thread->scope = heap;
  // Only the root may be without a heap: a tag in scope keeps the one that push made.
  Tag* tag = heap == nullptr ? root_tag() : heap->tag.load(std::memory_order_relaxed);
  if (TALLY_UNLIKELY(!tag->is_live())) {
    tag = tag->nearest_live();
    heap = thread->find_heap(tag->id);
  }
  thread->tag = tag;
  tls.heap = fast_heap(heap);
  return 0;
}

uint32_t current_tag() {
  const Thread* thread = tls.thread;
  if (thread->tag == nullptr) return kRootTag;
  const Tag* tag = thread->tag->nearest_live();
  // What is at hand may be of another, where one was retired or came back since the last slow step.
  const Tag* at_hand = tls.heap->tag.load(std::memory_order_relaxed);
  if (at_hand != nullptr && at_hand != tag) tls.heap = &empty_heap;
  return tag->id;
}

void retire_heap(Thread* thread, Heap* heap) {
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  Heap** at = &thread->buckets[tag->id & thread->bucket_mask];
  while (*at != heap) at = &(*at)->next_in_thread;
  *at = heap->next_in_thread;
  --thread->heap_count;
  if (tls.heap == heap) tls.heap = &empty_heap;
  thread->callers->forget(heap);
  uint64_t allocs = 0, requested = 0;
  for (const Heap::Class& of : heap->classes) {
    allocs += of.allocs.get();
    requested += of.requested.get();
  }
  // A short step: who reads the counts must not find a thread asleep in it, or must take what is.
  heap_moves.begin();
  tag->past_allocs.fetch_add(allocs, std::memory_order_relaxed);
  tag->past_requested.fetch_add(requested, std::memory_order_relaxed);
  at_point("heap: moving its counts");
  heap->tag.store(nullptr, std::memory_order_relaxed);
  heap_moves.end();
  for (Heap::Class& of : heap->classes) {
    of.allocs.set(0);
    of.requested.set(0);
    of.handed.set(0);
  }
  heap->sampling = {};
  g_heap_pool.give(heap);
  at_point("heap: given up");
  tag->heaps.fetch_sub(1, std::memory_order_release);
}

void drop_retired_heap(Thread* thread, uint32_t tag_id) {
  Block* foreign = nullptr;
  {
    LockGuard guard(thread->lock);
    Heap* heap = thread->find_heap(tag_id);
    if (heap == nullptr || heap->tag.load(std::memory_order_relaxed)->is_live()) return;
    drop_heap(thread, heap, ~0U, &foreign);
  }
  give_foreign(foreign);
}

void drop_retired_heaps(Thread* thread) {
  Block* foreign = nullptr;
  {
    LockGuard guard(thread->lock);
    thread->retirements_seen = retirements.load(std::memory_order_acquire);
    bool left = false;
    thread->for_each_heap([&](Heap* heap) {
      if (heap->tag.load(std::memory_order_relaxed)->is_live()) return;
      if (!drop_heap(thread, heap, ~0U, &foreign)) left = true;
    });
    // Seen, but not done with: the next steps look again.
    if (left) --thread->retirements_seen;
  }
  give_foreign(foreign);
}

void drop_retired_heap_now(uint32_t tag_id) {
  for (Thread* thread = all_threads.load(std::memory_order_acquire); thread != nullptr;
       thread = thread->next_thread) {
    if (thread == tls.thread) {
      drop_retired_heap(thread, tag_id);
    } else if (thread->orphan.load(std::memory_order_relaxed)) {
      // Holding the list's lock, under which alone an orphan becomes somebody's.
      LockGuard guard(threads_lock);
      if (thread->orphan.load(std::memory_order_relaxed)) drop_retired_heap(thread, tag_id);
    }
  }
}

}  // namespace tally::core
