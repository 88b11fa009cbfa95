// A heap: what one thread has for one tag. And the thread, which owns its heaps.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/config.h"
#include "base/counter.h"
#include "heap/size_class.h"
#include "memory/slab.h"
#include "os/lock.h"
#include "tag/tag.h"

namespace tally::core {

// For each class, in blocks:
//
//   in hand = (handed - allocs) + returns_count        handed - allocs = |list|
//   live(tag, class) = sum over slabs of (out - |remote|)  -  sum over heaps of in hand
//
// so no counter is ever written on free, and a block that changes hands is never counted twice.
//
// Who writes: `owner` the thread, without a lock; `lock` whoever holds thread->lock; `const` while
// it is bound to a tag. Heaps are never unmapped: a stale pointer leads to a heap, though perhaps
// one of another thread and tag by now.
struct Heap {
  // The fast path: arrays, so that an index is all the arithmetic.
  Block* list[kClasses];             // owner: blocks to allocate from
  OwnerCounter allocs[kClasses];     // owner: ever taken from list
  OwnerCounter requested[kClasses];  // owner: bytes that callers asked for in those
  // The slow path.
  OwnerCounter handed[kClasses];  // owner: blocks ever put on list
  Block* returns[kClasses];  // owner: freed blocks of other threads' slabs, to go back together
  OwnerCounter returns_count[kClasses];  // owner
  Slab* available[kClasses];    // lock: slabs that may have blocks to give; the first is used first
  Slab* empty[kClasses];        // lock: slabs that hold none, until the next purge
  std::atomic<Tag*> tag;        // lock; nullptr: not bound
  uint32_t tag_id;              // lock: tag->id
  std::atomic<Thread*> thread;  // const
  uint32_t slabs;               // lock: that it owns
  Heap* next_in_thread;         // lock
  Heap* next_heap;              // const for ever: of all
  Heap* pool_next;

  // Owner. A block was taken from list[c].
  void count(size_t c, size_t bytes) {
    if constexpr (kSingleInstructionCounters) {
      // As OwnerCounter::add, with the addressing that compilers do not find.
      asm("addq $1, %c2(%0,%1,8)\n\taddq %4, %c3(%0,%1,8)"
          :
          : "r"(this), "r"(c), "i"(offsetof(Heap, allocs)), "i"(offsetof(Heap, requested)),
            "r"(bytes)
          : "memory");
    } else {
      allocs[c].add(1);
      requested[c].add(bytes);
    }
  }
};

struct Thread {
  static constexpr unsigned kInlineBuckets = 16;

  // A thread with no heaps that will never get one.
  constexpr Thread(Heap** no_heaps, Thread* next) : next_thread(next), buckets(no_heaps) {}

  Lock lock;
  std::atomic<bool> orphan{false};  // lock: its thread is gone; a new one may continue with it
  // any: slabs of which others gave back enough that the thread should look. Pushed to one by one,
  // taken as a whole by who has the lock.
  std::atomic<Slab*> woken{nullptr};
  Thread* next_orphan = nullptr;  // under threads_lock
  Thread* next_thread = nullptr;  // const for ever: of all
  // Heaps by tag id. Owner, changed with the lock.
  Heap** buckets = nullptr;
  uint32_t bucket_mask = 0;
  uint32_t heap_count = 0;
  Heap* inline_buckets[kInlineBuckets] = {};
  // Tag scopes. Owner. A heap in scope stays bound to its tag.
  Tag* tag = nullptr;  // in force; what malloc uses, unless it was retired
  uint32_t depth = 0;
  uint32_t retirements_seen = 0;
  uint32_t drop_attempts = 0;  // slow steps until heaps of retired tags are looked at again
  Heap* scope =
      nullptr;  // of the innermost scope, or the root's; nullptr: the root, before it has a heap
  Heap* outer[kMaxScopes] = {};  // likewise, of the scopes around it
  // Slabs that became sparse, and may have been anything since. Owner, with the lock.
  static constexpr uint32_t kSparse = 32;
  uint32_t next_sparse = 0;
  Slab* sparse[kSparse] = {};

  // The step may take the heap away.
  template <class Step>
  void for_each_heap(Step step) {
    for (uint32_t i = 0; i <= bucket_mask; ++i) {
      Heap* next;
      for (Heap* heap = buckets[i]; heap != nullptr; heap = next) {
        next = heap->next_in_thread;
        step(heap);
      }
    }
  }
  Heap* find_heap(uint32_t tag_id) const {
    Heap* heap = buckets[tag_id & bucket_mask];
    while (heap != nullptr && heap->tag_id != tag_id) heap = heap->next_in_thread;
    return heap;
  }
};

// What the fast paths read. It starts at a heap with empty lists and a thread that owns nothing, so
// that the first calls find their way to the slow path without a test.
struct ThreadState {
  Heap* heap;
  Thread* thread;
};
static_assert(sizeof(ThreadState) <= 64,
              "initial-exec TLS is scarce in a process that loads us late");

extern constinit thread_local ThreadState tls;
extern constinit Heap empty_heap;

// Newest first, never shrink: may be walked without a lock.
extern constinit std::atomic<Heap*> all_heaps;
extern constinit std::atomic<Thread*> all_threads;
// The lock of the list of orphans and of both lists above. Taken after tags_lock and before a
// thread's lock.
extern constinit Lock threads_lock;

}  // namespace tally::core
