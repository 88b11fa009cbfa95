#include "heap/commons.h"

#include "base/math.h"
#include "base/preempt.h"
#include "heap/misuse.h"
#include "heap/sampling.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "memory/address_map.h"

namespace tally::core {
namespace {

// Ever handed to a heap, of one class. What a slab of its own begins with is twice that.
constexpr uint64_t kMostBorrowed = 2 * KiB;

// What was borrowed and freed. (With many blocks this is the local reuse that config.h speaks of.)
bool reuse(Heap* heap, unsigned c) {
  if constexpr (kHardened) return false;  // it waits there
  uint64_t count = heap->store[c].returns_count.get();
  if (count == 0) return false;
  Block* list = heap->store[c].returns;
  heap->store[c].returns = nullptr;
  heap->store[c].returns_count.set(0);
  Block* last = list;
  for (uint64_t i = 1; i < count && last != nullptr; ++i) last = last->next();
  if (last == nullptr || last->next() != nullptr) {
    // A block that was freed twice made it a ring. The blocks are lost.
    misuse_double_free(list, address_map.find(list));
    return false;
  }
  uint64_t part = blocks_before_sample(heap, c, count);
  if (part < count) {
    last = list;
    for (uint64_t i = 1; i < part; ++i) last = last->next();
    heap->store[c].returns = last->next();
    heap->store[c].returns_count.set(count - part);
    last->link(nullptr);
  }
  heap->hand(c, list, part);
  return true;
}

// The last block of the list's part to lend: as many as the heap had before, so that who needs many
// takes few steps, and on to the end of a cache line, which is to be one thread's.
Block* end_of_part(Block* first, uint64_t most, size_t size, uint64_t* count) {
  Block* last = first;
  for (*count = 1; last->next() != nullptr; ++*count, last = last->next()) {
    uintptr_t end = address(last) + size;
    if (*count >= most && (end % kCacheLine == 0 || address(last->next()) != end)) break;
  }
  return last;
}

}  // namespace

bool may_borrow(const Heap* heap, unsigned c) {
  // Where samples are taken one heap more is theirs.
  uint32_t alone = is_sampling() ? 2 : 1;
  return class_size(c) <= kOneSlotMax &&
         heap->classes[c].handed.get() * class_size(c) < kMostBorrowed &&
         heap->tag.load(std::memory_order_relaxed)->heaps.load(std::memory_order_relaxed) > alone;
}

// Model: tests/model/shared_model.cpp.
bool borrow(Heap* heap, unsigned c) {
  if (reuse(heap, c)) return true;
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  if (!make_shared_heap(commons, tag)) return false;
  at_point("commons: to be borrowed from");
  LockGuard guard(commons.lock);
  // A look at what came back may retire the heap of a tag that was retired, so it is looked up
  // after that; and what is in its hand goes back with the tag, and not again.
  look_at_woken(&commons);
  Heap* lender = tag->is_live() ? commons.find_heap(tag->id) : nullptr;
  if (lender == nullptr) return false;
  if (lender->classes[c].list == nullptr && !refill_locked(lender, c, true)) return false;
  uint64_t count;
  Block* first = lender->classes[c].list;
  Block* last = end_of_part(first, heap->classes[c].handed.get(), class_size(c), &count);
  uint64_t part = blocks_before_sample(heap, c, count);
  if (part < count) {
    last = first;
    for (count = 1; count < part; ++count) last = last->next();
  }
  lender->classes[c].list = last->next();
  last->link(nullptr);
  heap->hand(c, first, count);
  lender->classes[c].handed.sub(count);
  return true;
}

}  // namespace tally::core
