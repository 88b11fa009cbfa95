#include "memory/slab.h"

#include "backend/backend.h"
#include "base/check.h"
#include "base/preempt.h"
#include "heap/carve.h"
#include "heap/commons.h"
#include "heap/heap.h"
#include "heap/holes.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "heap/relief.h"
#include "heap/sampling.h"
#include "heap/slab_lists.h"
#include "heap/slab_ops.h"
#include "heap/thread.h"
#include "memory/address_map.h"
#include "memory/chunk.h"
#include "memory/guard.h"
#include "os/os.h"

namespace tally::core {
namespace {

// The equation of Slab, counted. The caller owns the slab, or nobody does.
void check(const Slab* slab) {
  if constexpr (kChecks) {
    uint32_t free_count = 0;
    for (const Block* b = slab->free; b != nullptr; b = b->next()) {
      TALLY_ASSERT(slab->is_block(b));
      ++free_count;
    }
    uint32_t carved = slab->carved.load(std::memory_order_relaxed);
    TALLY_ASSERT(carved == free_count + slab->level.out() + slab->in_holes);
    TALLY_ASSERT(slab->remote.count() <= slab->level.out());
    TALLY_ASSERT(carved <= slab->capacity);
  }
}

// ---- A slab's life. Lock of its heap's thread held.

// No block of it is anywhere but in itself.
void release(Slab* slab) {
  Heap* heap = slab->heap.load(std::memory_order_relaxed);
  Binding what = slab->what();
  Tag* tag = heap->tag.load(std::memory_order_relaxed);
  TALLY_ASSERT(slab->all_back());
  if (!slab->parked.load(std::memory_order_relaxed)) unlink(heap, what.size_class, slab);
  slab->parked.store(false, std::memory_order_relaxed);
  end_keeping(slab);
  lose_holes(slab);
  lose_tail(slab);
  slab->used_ms = 0;
  slab->sparse = false;
  --heap->slabs;
  const size_t bytes = slab->bytes.load(std::memory_order_relaxed);
  // Class and tag stay, for the message if a block is freed again.
  what.kind = SlabKind::kFree;
  slab->binding.store(what.pack(), std::memory_order_relaxed);
  slab->owner.store(nullptr, std::memory_order_relaxed);
  slab->heap.store(nullptr, std::memory_order_relaxed);
  slab->bytes.store(0, std::memory_order_relaxed);
  slab->level.set(0, 0);
  slab->remote.take();
  give_run(slab, Closing::kKeep);
  tag->uncharge(bytes);
}

Slab* new_slab(Heap* heap, unsigned c) {
  bool zeroed;
  unsigned slots = slots_of_slab(c);
  Slab* slab = take_run(slots, 1, slots == 1, &zeroed);
  if (slab == nullptr) return nullptr;
  TALLY_ASSERT(!slab->parked.load(std::memory_order_relaxed));
  size_t bytes =
      slots == 1 ? kSlotBytes - (address(slab->start) & (kSlotBytes - 1)) : slots * kSlotBytes;
  bytes -= guard::bytes();
  if constexpr (kHardened) {
    if (!zeroed) drop_pages_behind(slab, bytes, kSlotBytes / 2);
    if (!open_run(slab, bytes)) {
      give_run(slab);
      return nullptr;
    }
  }
  slab->free = nullptr;
  slab->block_size = static_cast<uint32_t>(class_size(c));
  slab->capacity = static_cast<uint32_t>(bytes / class_size(c));
  slab->carved.store(0, std::memory_order_relaxed);
  slab->level.set(0, 0);
  slab->bytes.store(0, std::memory_order_relaxed);
  if (!zeroed) note_tail(slab);
  Binding what = {SlabKind::kBlocks, static_cast<uint8_t>(c),
                  static_cast<uint16_t>(heap->tag.load(std::memory_order_relaxed)->id)};
  slab->binding.store(what.pack(), std::memory_order_relaxed);
  slab->heap.store(heap, std::memory_order_release);
  slab->owner.store(heap->thread.load(std::memory_order_relaxed), std::memory_order_release);
  ++heap->slabs;
  link(&heap->store[c].available, slab);
  return slab;
}

// A step of the slow path should give so many blocks at least: 16, or of long ones what a batch
// has.
uint32_t little(const Slab* slab) {
  return static_cast<uint32_t>(max_of(min_of(kLongBatchBytes / slab->block_size, 16), 1));
}

// Too little of the slab is free for a step of the slow path to be worth it; where a limit is
// short, nothing.
bool is_nearly_full(const Slab* slab) {
  uint32_t out = slab->level.out();
  uint32_t back = slab->remote.count();
  // More back than were out: it is for collect to say.
  return slab->carved.load(std::memory_order_relaxed) == slab->capacity && back <= out &&
         out - back > slab->wake_level() &&
         (out - back == slab->capacity || !tag_of(slab)->is_short());
}

// The event of a parked slab. Where memory is short, each block counts.
void set_wake_level(Slab* slab) {
  uint32_t out = slab->level.out();
  slab->level.set(out, tag_of(slab)->is_short() ? out - 1 : slab->wake_level());
}

// Model: tests/model/slab_model.cpp. Whoever frees enough of the slab makes it available again. The
// store and the look at `remote` pair with push: either the pusher sees the slab parked, or we see
// what it pushed.
void park(Heap* heap, unsigned c, Slab* slab) {
  look_at_free(slab, kHardened ? 0 : little(slab));
  unlink(heap, c, slab);
  set_wake_level(slab);
  at_point("park: to be parked");
  slab->parked.exchange(true, std::memory_order_seq_cst);
  if (is_nearly_full(slab)) return;
  slab->level.set(slab->level.out(), 0);
  unpark(heap, c, slab);
}

// An empty slab that was kept. The caller owns it. False: it is none any more, as a limit refuses
// what its holes would take.
bool use_again(Heap* heap, unsigned c, Slab* slab) {
  end_keeping(slab);  // with the bytes that it came with, before what was in holes is added
  bool sound = slab->all_back();
  if (kHardened && sound) collect(slab);
  // Hardened, what is in no hole has what was left there, to be looked at.
  const bool stays = kHardened && (slab->holes != 0 || slab->level.out() != 0);
  bool as_it_is = sound && (stays || !slab->is_scattered());
  if (!as_it_is && !forget_holes(slab) && sound) {
    release(slab);
    return false;
  }
  unlink(heap, c, slab);
  link(&heap->store[c].available, slab);
  if (as_it_is) return true;
  RemoteList::Taken taken = slab->remote.take();
  // More came back than was out.
  if (!sound) misuse_double_free(taken.first != nullptr ? taken.first : slab->free, slab);
  slab->level.set(0, 0);
  if (kHardened && sound) {
    link_again(slab);
    return true;
  }
  slab->free = nullptr;
  slab->carved.store(0, std::memory_order_relaxed);
  return true;
}

// Model: tests/model/thread_model.cpp. Takes a slab that has blocks to give from an orphan's heap
// of this tag. Locks of others are only tried, as one is held.
Slab* steal(Heap* heap, unsigned c) {
  constexpr int kLookAt = 64;
  Thread* thread = all_threads.load(std::memory_order_acquire);
  for (int i = 0; thread != nullptr && i < kLookAt; ++i, thread = thread->next_thread) {
    if (is_shared(thread) || !thread->orphan.load(std::memory_order_relaxed)) continue;
    at_point("steal: saw an orphan");
    if (!thread->lock.try_acquire()) continue;
    Slab* slab = nullptr;
    if (thread->orphan.load(std::memory_order_relaxed)) {
      look_at_woken(thread);
      Heap* other = thread->find_heap(heap->tag.load(std::memory_order_relaxed)->id);
      if (other != nullptr) slab = other->store[c].available;
      if (other != nullptr && slab == nullptr) slab = other->store[c].empty;
      if (slab != nullptr) {
        unlink(other, c, slab);
        --other->slabs;
        slab->heap.store(heap, std::memory_order_release);
        slab->owner.store(heap->thread.load(std::memory_order_relaxed), std::memory_order_release);
        ++heap->slabs;
        link(slab->kept ? &heap->store[c].empty : &heap->store[c].available, slab);
      }
    }
    thread->lock.release();
    if (slab != nullptr) return slab->kept && !use_again(heap, c, slab) ? nullptr : slab;
  }
  return nullptr;
}

// For want of memory: a slab that was not worth it.
Slab* find_parked(Heap* heap, unsigned c) {
  for (Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
       chunk = chunk->next_chunk) {
    for (Slab& slab : chunk->slabs) {
      if (slab.heap.load(std::memory_order_relaxed) != heap || slab.what().size_class != c)
        continue;
      if (slab.level.out() - slab.remote.count() == slab.capacity) continue;
      slab.level.set(slab.level.out(), 0);
      unpark(heap, c, &slab);
      return &slab;
    }
  }
  return nullptr;
}

// ---- Handing blocks to the heap.

// What is counted as free and not on the list, after a mistake that was reported, is used for good:
// nobody is to look for it again. Where all is well there is none. Always false.
bool lose_free(Slab* slab) {
  slab->level.set(slab->level.out() + slab->free_count(), 0);
  slab->free = nullptr;
  return false;
}

// Hardened: as it is to be long before memory is used again, so many of the blocks stay that were
// freed last, by chance. Where memory is short, none.
uint32_t count_to_stay(const Slab* slab) {
  if (!kHardened || tag_of(slab)->is_short()) return 0;
  const auto most = static_cast<uint32_t>(min_of(slab->capacity / 16 + 1, kStayMost));
  return (most + 1) / 2 + static_cast<uint32_t>(hardened::draw() % (most / 2 + 1));
}

// Takes off the slab's list, of `count` blocks, those behind the first `stay`: as many as the heap
// may have before its next sample, which is what is left in count. nullptr: reported, and lost.
Block* cut_out(Heap* heap, unsigned c, Slab* slab, uint32_t stay, uint32_t* count) {
  Block* list = slab->free;
  Block* before = nullptr;
  for (uint32_t i = 0; i < stay && list != nullptr; ++i) {
    before = list;
    list = list->next();
  }
  const uint32_t have = *count - stay;
  *count = static_cast<uint32_t>(blocks_before_sample(heap, c, have));
  Block* rest = nullptr;
  if (TALLY_UNLIKELY(list != nullptr && *count < have)) {
    Block* last = check_list(list, have, slab, *count);
    if (last != nullptr) {
      rest = last->next();
      last->link(nullptr);
    } else {
      list = nullptr;
    }
  }
  if (before == nullptr || list == nullptr) {
    slab->free = rest;
  } else {
    before->link(rest);
  }
  return list;
}

// All that is free in the slab, and others of its blocks behind it if that is little.
bool hand_free(Heap* heap, unsigned c, Slab* slab) {
  check(slab);
  uint32_t stay = count_to_stay(slab);
  const uint32_t least = little(slab) + stay;
  if (slab->free == nullptr || (kHardened && slab->free_count() < least)) collect(slab);
  const bool is_carved = slab->carved.load(std::memory_order_relaxed) == slab->capacity;
  const bool has_more = slab->holes != 0 || !is_carved;
  // Hardened, each block is looked at as it is taken: the list is walked for its end alone.
  Block* last = look_at_free(slab, kHardened && !has_more ? 0 : least);
  if (has_more && slab->free_count() < least) {
    if (slab->holes != 0) {
      fill_hole(slab, last);
    } else {
      carve(heap, slab, last);
    }
  }
  if (slab->free == nullptr) return lose_free(slab);
  uint32_t part = slab->free_count();
  stay = static_cast<uint32_t>(min_of(stay, part / 2));
  Block* list = cut_out(heap, c, slab, stay, &part);
  if (list == nullptr) return lose_free(slab);
  uint32_t out = slab->level.out() + part;
  slab->level.set(out, next_event(slab, out));
  note_use(slab);
  heap->hand(c, list, part);
  return true;
}

bool has_free(const Slab* slab) { return slab->free != nullptr || slab->remote.count() != 0; }

// Without a charge: a limit refuses. collect put the slabs that have something before the others.
bool hand_what_is_free(Heap* heap, unsigned c) {
  constexpr int kLookAt = 8;
  Slab* slab = heap->store[c].available;
  for (int i = 0; slab != nullptr && i < kLookAt; ++i, slab = slab->next) {
    if (has_free(slab) && hand_free(heap, c, slab)) return true;
  }
  slab = steal(heap, c);
  return slab != nullptr && hand_free(heap, c, slab);
}

// ---- Giving blocks of others back.

// All blocks of the slab are back.
void put_away(Heap* heap, unsigned c, Slab* slab, bool may_stay) {
  const Tag* tag = tag_of(slab);
  if (may_stay && tag->is_live() && may_keep() && !tag->is_pressed()) {
    keep_empty(heap, c, slab);
  } else {
    release(slab);
  }
}

// Lock of the heap's thread held. True if the slab turned out to be empty.
bool look_at(Heap* heap, Slab* slab, bool orphan) {
  unsigned c = slab->what().size_class;
  if (slab->all_back()) {
    put_away(heap, c, slab, kOrphansKeep || !orphan);
    return true;
  }
  if (slab->parked.load(std::memory_order_relaxed) && !is_nearly_full(slab)) {
    unpark(heap, c, slab);
  }
  return false;
}

// Lock held. Nothing will be allocated from the heap any more, and nothing of it is left.
bool is_done(const Heap* heap) {
  return heap->slabs == 0 && !heap->tag.load(std::memory_order_relaxed)->is_live();
}

// A block in hand goes back to a slab of its own thread.
void return_own(Heap* heap, unsigned c, Slab* slab, Block* block) {
  block->link(slab->free);
  slab->free = block;
  slab->level.set(slab->level.out() - 1, 0);
  if (slab->parked.load(std::memory_order_relaxed)) unpark(heap, c, slab);
  if (slab->all_back()) put_away(heap, c, slab, kOrphansKeep);
}

}  // namespace

Block* look_at_free(Slab* slab, uint32_t little) {
  if (slab->free == nullptr) return nullptr;
  uint32_t count = slab->free_count();
  Block* last = check_head(slab->free, count, slab, little);
  if (last != nullptr && slab->holes != 0 && (options.check || count < little)) {
    const Block* twice = find_in_hole(slab);
    if (twice == nullptr) return last;
    misuse_double_free(twice, slab);
    last = nullptr;
  }
  if (last == nullptr) lose_free(slab);
  return last;
}

void wake(Slab* slab) {
  at_point("wake: to be marked");
  Heap* heap = slab->heap.load(std::memory_order_acquire);
  if (heap == nullptr || slab->woken.exchange(true, std::memory_order_seq_cst)) return;
  Thread* thread = heap->thread.load(std::memory_order_relaxed);
  at_point("wake: marked");
  Slab* first = thread->woken.load(std::memory_order_relaxed);
  do {
    slab->next_woken = first;
  } while (!thread->woken.compare_exchange_weak(first, slab, std::memory_order_seq_cst,
                                                std::memory_order_relaxed));
  // An orphan has nobody else who would. Locks of others are only tried, as one is held; whoever
  // has it looks, or the purge does.
  if (!thread->orphan.load(std::memory_order_seq_cst) || !thread->lock.try_acquire()) return;
  if (thread->orphan.load(std::memory_order_relaxed)) look_at_woken(thread);
  thread->lock.release();
}

void look_at_woken(Thread* thread) {
  if (thread->woken.load(std::memory_order_relaxed) == nullptr) return;
  bool orphan = thread->orphan.load(std::memory_order_relaxed);
  Slab* slab = thread->woken.exchange(nullptr, std::memory_order_acquire);
  while (slab != nullptr) {
    Slab* next = slab->next_woken;
    // Before the look, so that who pushes after it puts the slab on the list again.
    slab->woken.exchange(false, std::memory_order_seq_cst);
    at_point("woken: cleared");
    Heap* heap = slab->heap.load(std::memory_order_acquire);
    if (heap == nullptr) {
      // Released meanwhile.
    } else if (heap->thread.load(std::memory_order_relaxed) != thread) {
      wake(slab);  // it has become another thread's
    } else if (look_at(heap, slab, orphan && thread != &sampled) && orphan && is_done(heap)) {
      // An orphan has nothing in hand; a thread that runs looks after its own heaps.
      retire_heap(thread, heap);
    }
    slab = next;
  }
}

void put_free_first(Heap* heap) {
  for (unsigned c = 0; c < kClasses; ++c) {
    Slab* next;
    for (Slab* slab = heap->store[c].available; slab != nullptr; slab = next) {
      next = slab->next;
      if (!has_free(slab) || slab->previous == nullptr) continue;
      unlink(heap, c, slab);
      link(&heap->store[c].available, slab);
    }
  }
}

uint32_t unpark_all(Thread* thread) {
  uint32_t looked_at = 0;
  for (Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
       chunk = chunk->next_chunk) {
    for (Slab& slab : chunk->slabs) {
      if (slab.owner.load(std::memory_order_relaxed) != thread) continue;
      if (!slab.parked.load(std::memory_order_relaxed)) continue;
      if (is_nearly_full(&slab)) {
        set_wake_level(&slab);
        continue;
      }
      slab.level.set(slab.level.out(), 0);
      unpark(slab.heap.load(std::memory_order_relaxed), slab.what().size_class, &slab);
    }
    looked_at += kSlotsPerChunk / 8;
  }
  return looked_at;
}

bool refill_locked(Heap* heap, unsigned c, bool may_grow) {
  limits_met.refused = nullptr;
  for (;;) {
    Slab* slab = heap->store[c].available;
    if (slab != nullptr && is_nearly_full(slab)) {
      park(heap, c, slab);
      continue;
    }
    if (slab == nullptr && (slab = heap->store[c].empty) != nullptr && !use_again(heap, c, slab)) {
      continue;
    }
    if (slab == nullptr) slab = steal(heap, c);
    if (slab == nullptr && may_grow) slab = new_slab(heap, c);
    if (slab == nullptr && may_grow) slab = find_parked(heap, c);
    if (slab == nullptr) return false;
    if (hand_free(heap, c, slab)) return true;
    if (limits_met.refused == nullptr) continue;
    return hand_what_is_free(heap, c);
  }
}

bool refill(Heap* heap, unsigned c) {
  auto from_slabs = [&](bool may_grow) {
    Thread* thread = heap->thread.load(std::memory_order_relaxed);
    LockGuard guard(thread->lock);
    look_at_woken(thread);
    return refill_locked(heap, c, may_grow);
  };
  bool done = may_borrow(heap, c) && (from_slabs(false) || borrow(heap, c));
  if (!done && !from_slabs(true)) return false;
  // So that memory goes back though little happens: a thread that works passes here.
  purge_tick();
  return true;
}

void on_level(Slab* slab) noexcept {
  if (TALLY_UNLIKELY(backend::is_inside())) return;  // the lock may be ours; the purge will see it
  Thread* thread = tls.thread;
  at_point("level: reached");
  bool empty = false;
  uint32_t emptied_tag = kNoTag;  // retired, and its heap has no slab any more
  {
    LockGuard guard(thread->lock);
    // With its last block the slab may have been released by another thread before we had the lock.
    Heap* heap = slab->heap.load(std::memory_order_relaxed);
    if (heap == nullptr || heap->thread.load(std::memory_order_relaxed) != thread) return;
    slab->level.set(slab->level.out(), 0);
    collect(slab);
    check(slab);
    empty = look_at(heap, slab, false);
    if (empty && is_done(heap)) emptied_tag = heap->tag_id;
    if (!empty && !slab->parked.load(std::memory_order_relaxed)) {
      uint32_t out = slab->level.out();
      slab->level.set(out, next_event(slab, out));
      if (out <= slab->capacity / 2) note_sparse(slab);
    }
  }
  if (empty) purge_tick();
  if (emptied_tag != kNoTag) drop_retired_heap(thread, emptied_tag);
  settle_limits();
}

Block* flush(Heap* heap, Block* foreign) {
  Thread* thread = heap->thread.load(std::memory_order_relaxed);
  if (is_shared(thread)) shared_flushes.begin();
  for (unsigned c = 0; c < kClasses; ++c) {
    uint64_t counts[2] = {heap->classes[c].handed.get() - heap->classes[c].allocs.get(),
                          heap->store[c].returns_count.get()};
    Block* lists[2] = {heap->classes[c].list, heap->store[c].returns};
    heap->classes[c].list = heap->store[c].returns = nullptr;
    // Whether it was ahead or next: to keep it where it is next alone would favour such.
    forget_point(heap, c);
    heap->classes[c].handed.set(heap->classes[c].allocs.get());
    heap->store[c].returns_count.set(0);
    if (counts[0] > UINT32_MAX) {
      // More was taken from the list than was on it: it had become a ring.
      misuse_double_free(lists[0], address_map.find(lists[0]));
      counts[0] = 0;
    }
    for (int i = 0; i < 2; ++i) {
      for (Block* block = lists[i]; block != nullptr && counts[i] != 0; --counts[i]) {
        at_point("flush: a block goes back");
        Block* next = block->next();
        Slab* slab = address_map.find(block);
        if (slab->owner.load(std::memory_order_relaxed) == thread) {
          return_own(heap, c, slab, block);
        } else {
          block->link(foreign);
          foreign = block;
        }
        block = next;
      }
    }
  }
  if (is_shared(thread)) shared_flushes.end();
  return foreign;
}

Block* flush_all(Thread* thread) {
  Block* foreign = nullptr;
  thread->for_each_heap([&](Heap* heap) { foreign = flush(heap, foreign); });
  return foreign;
}

unsigned release_empty(Heap* heap, unsigned most) {
  unsigned released = 0;
  for (unsigned c = 0; c < kClasses; ++c) {
    while (heap->store[c].empty != nullptr) {
      release(heap->store[c].empty);
      ++released;
    }
    unsigned looked_at = 0;
    for (Slab* slab = heap->store[c].available; slab != nullptr && looked_at < most; ++looked_at) {
      Slab* next = slab->next;
      if (slab->all_back()) {
        release(slab);
        ++released;
      }
      slab = next;
    }
  }
  return released;
}

unsigned release_all_empty(Thread* thread, unsigned most) {
  unsigned released = 0;
  look_at_woken(thread);
  bool orphan = thread->orphan.load(std::memory_order_relaxed);
  thread->for_each_heap([&](Heap* heap) {
    released += release_empty(heap, most);
    if (orphan && is_done(heap)) retire_heap(thread, heap);
  });
  return released;
}

}  // namespace tally::core
