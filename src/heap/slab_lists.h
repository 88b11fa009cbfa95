// The lists in which a heap has its slabs, and what moves them from one to the other: available,
// empty, and parked, which is in none. The lock of the heap's thread is held for all of it.
#pragma once

#include <atomic>
#include <cstddef>

#include "heap/heap.h"
#include "memory/chunk.h"
#include "memory/slab.h"

namespace tally::core {

// Of slabs in the lists of empty ones. Hardened, with all of their addresses, as each is a mapping
// or two, of which a process may have so many.
inline constinit std::atomic<size_t> kept_slab_bytes{0};
inline size_t bytes_to_keep(const Slab* slab) {
  return kHardened ? slab->slots * kSlotBytes : slab->bytes.load(std::memory_order_relaxed);
}

inline void link(Slab** list, Slab* slab) {
  slab->previous = nullptr;
  slab->next = *list;
  if (slab->next != nullptr) slab->next->previous = slab;
  *list = slab;
}

inline void unlink(Heap* heap, unsigned c, Slab* slab) {
  if (slab->previous != nullptr) {
    slab->previous->next = slab->next;
  } else {
    Heap::Store& store = heap->store[c];
    (store.available == slab ? store.available : store.empty) = slab->next;
  }
  if (slab->next != nullptr) slab->next->previous = slab->previous;
}

// A parked slab has blocks to give again.
inline void unpark(Heap* heap, unsigned c, Slab* slab) {
  link(&heap->store[c].available, slab);
  slab->parked.store(false, std::memory_order_relaxed);
}

// It leaves the list of empty ones, if it is there.
inline void end_keeping(Slab* slab) {
  if (!slab->kept) return;
  slab->kept = false;
  kept_slab_bytes.fetch_sub(bytes_to_keep(slab), std::memory_order_relaxed);
}

// All blocks of an available slab are back. It stays for a while: what was needed once is often
// needed again, and the purge that comes round releases it.
inline void keep_empty(Heap* heap, unsigned c, Slab* slab) {
  end_keeping(slab);
  if (slab->parked.load(std::memory_order_relaxed)) {
    slab->parked.store(false, std::memory_order_relaxed);
  } else {
    unlink(heap, c, slab);
  }
  link(&heap->store[c].empty, slab);
  slab->kept = true;
  kept_slab_bytes.fetch_add(bytes_to_keep(slab), std::memory_order_relaxed);
}

// Hardened, to close a slab and to open it again are two system calls: what a thread that ends had
// in hand may be the last of a slab that stays then too, for who continues with its heaps or takes
// slabs from them.
inline constexpr bool kOrphansKeep = kHardened;

// As they stay where others would have become free slots that wait, both have one bound then.
inline bool may_keep() {
  const size_t free_slots = kOrphansKeep ? dirty_run_bytes() : 0;
  return kept_slab_bytes.load(std::memory_order_relaxed) + free_slots < most_waiting();
}

}  // namespace tally::core
