// A heap: what one thread has for one tag. And the thread, which owns its heaps.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "base/config.h"
#include "base/counter.h"
#include "base/options.h"
#include "heap/misuse.h"
#include "memory/size_class.h"
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
  // What malloc touches of a class: half a cache line.
  struct alignas(32) Class {
    Block* list;             // owner: blocks to allocate from
    OwnerCounter allocs;     // owner: ever taken from list
    OwnerCounter requested;  // owner: bytes that callers asked for in those
    OwnerCounter handed;     // owner: blocks ever put on list, less those lent from it

    // Hardened: the first block of the list, which is of class c, becomes one of `bytes`.
    // `kIsShort`: it has kLinearMax bytes at most, as the compiler is to know; else it may have.
    template <bool kIsShort>
    void* pop_sealed(unsigned c, size_t bytes) {
      Block* block = list;
      if (TALLY_UNLIKELY(block == nullptr)) return nullptr;
      Block* next;
      const size_t size = hardened::kClassSizes[c];
      const uint64_t canary = hardened::canary_of(block);
      if (TALLY_UNLIKELY(!block->read_next(&next) ||
                         !hardened::is_untouched<kIsShort>(block, canary, size,
                                                           !kIsShort && looks_at_all()))) {
        return pop_damaged(c, bytes);
      }
      // What comes next lies anywhere, and is read from its link to its seal.
      __builtin_prefetch(next, 1);
      __builtin_prefetch(hardened::seal_at(next, size), 1);
      take(next, bytes);
      hardened::open<kIsShort>(block, canary, size, bytes);
      return block;
    }
    // With a report of what happened to it.
    [[gnu::returns_nonnull]] void* pop_damaged(unsigned c, size_t bytes);

   private:
    // Whether all of what was wiped is looked at of the next block.
    bool looks_at_all() const { return options.check || allocs.get() % hardened::kSeenTurns == 0; }
    void take(Block* next, size_t bytes) {
      list = next;
      allocs.add(1);
      requested.add(bytes);
    }
  };
  // And what is behind it.
  struct alignas(32) Store {
    Block* returns;              // owner: freed blocks of other threads' slabs, to go back together
    OwnerCounter returns_count;  // owner
    Slab* available;  // lock: slabs that may have blocks to give; the first is used first
    Slab* empty;      // lock: slabs that hold none, until the next purge
  };

  Class classes[kClasses];
  Store store[kClasses];
  std::atomic<Tag*> tag;        // lock; nullptr: not bound
  uint32_t tag_id;              // lock: tag->id
  uint32_t slabs;               // lock: that it owns
  std::atomic<Thread*> thread;  // const
  Heap* next_in_thread;         // lock
  Heap* next_heap;              // const for ever: of all
  Heap* pool_next;
  uint64_t allocs_seen;  // owner: of all classes, when it was last looked whether it is idle
  // Owner; see heap/sampling.h.
  struct Sampling {
    uint64_t due;     // classes, by bits, of which the next block is a sample
    uint64_t random;  // what is drawn from; 0: nothing was yet
    double uniform;   // drawn for the list that comes; 0: it is not to be cut
  };
  Sampling sampling;

  // Puts blocks on a class's list, which is empty.
  void hand(size_t c, Block* blocks, uint64_t count) {
    TALLY_ASSERT(classes[c].list == nullptr);
    classes[c].handed.add(count);
    classes[c].list = blocks;
  }
  // Takes the first block of a class's list; nullptr if there is none. The class is the one that
  // lies `index` times kStep bytes in.
  template <size_t kStep, bool kFetchNext>
  void* pop(size_t index, size_t bytes) {
    auto* from = reinterpret_cast<Class*>(reinterpret_cast<char*>(classes) + index * kStep);
    if constexpr (kHardened) {
      constexpr bool kIsShort = kStep * kMinAlignment == sizeof(Class);
      return from->pop_sealed<kIsShort>(static_cast<unsigned>(index * kStep / sizeof(Class)),
                                        bytes);
    } else if constexpr (!kSingleInstructionCounters) {
      Block* block = from->list;
      if (TALLY_UNLIKELY(block == nullptr)) return nullptr;
      Block* next = block->next();
      from->list = next;
      if constexpr (kFetchNext) __builtin_prefetch(next, 1);
      from->allocs.add(1);
      from->requested.add(bytes);
      return block;
    } else {
      // The same, with the addressing that compilers do not find: `from` is never computed.
      Block* block;
      asm("movq (%1,%2,%c3), %0"
          : "=a"(block)
          : "r"(this), "r"(index), "i"(kStep), "m"(from->list));
      if (TALLY_UNLIKELY(block == nullptr)) return nullptr;
      Block* next = block->next();
      if constexpr (kFetchNext) __builtin_prefetch(next, 1);
      asm("movq %4, (%0,%1,%c2)\n\t"
          "addq $1, %c5(%0,%1,%c2)\n\t"
          "addq %3, %c6(%0,%1,%c2)"
          :
          : "r"(this), "r"(index), "i"(kStep), "r"(bytes), "r"(next), "i"(offsetof(Class, allocs)),
            "i"(offsetof(Class, requested))
          : "memory");
      return block;
    }
  }
};
static_assert(offsetof(Heap, classes) == 0 && sizeof(Heap::Class) == 32);

// Of a slab that can neither be released nor change its heap meanwhile.
inline Tag* tag_of(const Slab* slab) {
  return slab->heap.load(std::memory_order_relaxed)->tag.load(std::memory_order_relaxed);
}

struct Callers;
extern constinit Callers no_callers;

struct Thread {
  static constexpr unsigned kInlineBuckets = 16;

  // A thread with no heaps that will never get one.
  constexpr Thread(Heap** no_heaps, Thread* next) : next_thread(next), buckets(no_heaps) {}
  // An orphan from the start.
  constexpr explicit Thread(Thread* next)
      : orphan(true), next_thread(next), buckets(inline_buckets), bucket_mask(kInlineBuckets - 1) {}

  Lock lock;
  std::atomic<bool> orphan{false};  // lock: its thread is gone; a new one may continue with it
  // any: slabs of which others gave back enough that the thread should look. Pushed to one by one,
  // taken as a whole by who has the lock.
  std::atomic<Slab*> woken{nullptr};
  Thread* next_orphan = nullptr;  // under threads_lock
  bool is_unwatched = false;      // owner: nobody would tell of its end
  Thread* next_thread = nullptr;  // const for ever: of all
  // Heaps by tag id. Owner, changed with the lock.
  Heap** buckets = nullptr;
  uint32_t bucket_mask = 0;
  uint32_t heap_count = 0;
  Heap* inline_buckets[kInlineBuckets] = {};
  // Tag scopes. Owner. A heap in scope stays bound to its tag. (Without a scope and by module: see
  // heap/callers.h.)
  Tag* tag = nullptr;  // in force; what malloc uses, unless it was retired
  uint32_t depth = 0;
  Callers* callers = &no_callers;  // owner, or the lock of an orphan
  uint32_t retirements_seen = 0;
  uint32_t drop_attempts = 0;  // slow steps until heaps of retired tags are looked at again
  uint32_t rounds_seen = 0;    // of the purge: all heaps were looked at since
  uint32_t next_look = 0;      // bucket of the next heaps to look at
  // Of the innermost scope, or where none is open the root's, or by thread that of its name;
  // nullptr: the root, before it has a heap.
  Heap* scope = nullptr;
  Heap* outer[kMaxScopes] = {};  // likewise, of the scopes around it
  // By thread: the name that it had when it was last looked at, and slow steps. Owner.
  char name[16] = {};
  bool has_name = false;
  uint32_t name_steps = 0;
  uint64_t name_looked_ms = 0;
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
  // For forwarders, heap/callers.h: on whose behalf the next one is called (no address of a program
  // has more than 56 bits), and whether malloc asked.
  unsigned char caller[7] = {};
  bool asks_caller = false;
};
static_assert(sizeof(ThreadState) <= 64,
              "initial-exec TLS is scarce in a process that loads us late");

extern constinit thread_local ThreadState tls;
extern constinit Heap empty_heap;

// Newest first, never shrink: may be walked without a lock.
extern constinit std::atomic<Heap*> all_heaps;
extern constinit std::atomic<Thread*> all_threads;
// Of counts, from heaps that go to their tags.
extern constinit Moves heap_moves;
// The lock of the list of orphans and of both lists above. Taken after tags_lock and before a
// thread's lock.
extern constinit Lock threads_lock;

}  // namespace tally::core
