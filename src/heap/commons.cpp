#include "heap/commons.h"

#include "base/math.h"
#include "heap/misuse.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "memory/address_map.h"

namespace tally::core {
namespace {

// Ever handed to a heap, of one class. What a slab of its own begins with is twice that.
constexpr uint64_t kMostBorrowed = 2 * KiB;

// What was borrowed and freed. (With many blocks this is the local reuse that config.h speaks of.)
bool reuse(Heap* heap, unsigned c) {
  uint64_t count = heap->store[c].returns_count.get();
  if (count == 0) return false;
  Block* list = heap->store[c].returns;
  heap->store[c].returns = nullptr;
  heap->store[c].returns_count.set(0);
  Block* last = list;
  for (uint64_t i = 1; i < count && last != nullptr; ++i) last = last->next;
  if (last == nullptr || last->next != nullptr) {
    // A block that was freed twice made it a ring. The blocks are lost.
    misuse_double_free(list, address_map.find(list));
    return false;
  }
  hand(heap, c, list, count);
  return true;
}

// As many as it had before, so that who needs many takes few steps; neighbours in a cache line go
// to one thread.
uint64_t next_group(const Heap* heap, unsigned c) {
  return max_of(heap->classes[c].handed.get(), max_of(kCacheLine / class_size(c), 1));
}

}  // namespace

bool may_borrow(const Heap* heap, unsigned c) {
  return class_size(c) <= kOneSlotMax &&
         heap->classes[c].handed.get() * class_size(c) < kMostBorrowed &&
         heap->tag.load(std::memory_order_relaxed)->heaps.load(std::memory_order_relaxed) > 1;
}

bool borrow(Heap* heap, unsigned c) {
  if (reuse(heap, c)) return true;
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  Heap* lender = heap_in_commons(tag);
  if (lender == nullptr) return false;
  LockGuard guard(commons.lock);
  // What is in the lender's hand goes back when the tag is retired, and not again.
  if (!tag->is_live()) return false;
  if (lender->classes[c].list == nullptr && !refill_locked(lender, c, true)) return false;
  Block* first = lender->classes[c].list;
  Block* last = first;
  uint64_t count = 1;
  for (uint64_t most = next_group(heap, c); count < most && last->next != nullptr; ++count) {
    last = last->next;
  }
  lender->classes[c].list = last->next;
  last->next = nullptr;
  hand(heap, c, first, count);
  lender->classes[c].handed.sub(count);
  return true;
}

}  // namespace tally::core
