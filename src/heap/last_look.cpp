#include "heap/last_look.h"

#include "backend/backend.h"
#include "base/options.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "memory/address_map.h"
#include "memory/chunk.h"
#include "os/os.h"

namespace tally::core {
namespace {

constexpr const char* kSeen = "the end of the process";

// The end is to take some tenths of a millisecond more at most. A step is a block that is looked
// at; to another page, which is in no cache, it counts as many. Hardened, so many bytes that were
// wiped are one more, and there is more time, as it is for who asked.
constexpr uint32_t kSteps = kHardened ? 32768 : 8192, kStepsToPage = 16;
constexpr uint32_t kStepsOfChunk = 64, kWipedOfStep = 128;
constexpr uint32_t kMostOfList = 2048;

// A list, as far as it was walked.
struct Walk {
  const Block* last = nullptr;   // the last block
  const Block* wrong = nullptr;  // what comes behind it, and is none
  uint32_t seen = 0;             // blocks
  bool is_ring = false;
  bool is_whole = false;  // it was walked to its end
};

// A block of this class, and of the slab if there is one: as much as can be said of any pointer.
bool is_one(const Block* block, unsigned c, const Slab* slab) {
  const Slab* where = address_map.find(block);
  const Binding what = where->what();
  return (slab == nullptr || slab == where) && what.kind == SlabKind::kBlocks &&
         what.size_class == c && where->is_block(block);
}

// The block of a ring that the list comes to first: it was put on the list again.
const Block* entry_of_ring(const Block* first, const Block* of_ring) {
  const Block* ahead = first;
  for (const Block* block = of_ring;;) {
    ahead = ahead->next();
    block = block->next();
    if (block == of_ring) break;
  }
  while (first != ahead) {
    first = first->next();
    ahead = ahead->next();
  }
  return first;
}

// Those before the entry, and those of the ring.
uint64_t blocks_of_ring(const Block* first, const Block* entry) {
  uint64_t count = 1;
  for (const Block* block = first; block != entry; block = block->next()) ++count;
  for (const Block* block = entry->next(); block != entry; block = block->next()) ++count;
  return count;
}

// Where two lists that end in the same block come together.
const Block* meeting_point(const Block* a, uint32_t blocks_of_a, const Block* b,
                           uint32_t blocks_of_b) {
  for (; blocks_of_a > blocks_of_b; --blocks_of_a) a = a->next();
  for (; blocks_of_b > blocks_of_a; --blocks_of_b) b = b->next();
  while (a != b) {
    a = a->next();
    b = b->next();
  }
  return a;
}

class LastLook {
 public:
  // A signal handler that calls exit may have interrupted malloc or free between two instructions,
  // so that a count is off by one. Links never are.
  static constexpr uint32_t kUnderWay = 1;

  LastLook(Thread* thread, bool (*may_tell)()) : thread_(thread), may_tell_(may_tell) {}

  // The lists that the heap allocates from, and of what it is to give back.
  void look_at(Heap* heap) {
    for (unsigned c = 0; c < kClasses; ++c) {
      Heap::Class& of = heap->classes[c];
      Heap::Store& store = heap->store[c];
      const Walk walk = walk_list(of.list, c, nullptr);
      if (kHardened || !report_tail(of.list, walk, c)) {
        report(of.list, walk, of.list == nullptr ? 0 : of.handed.get() - of.allocs.get());
      }
      report(store.returns, walk_list(store.returns, c, nullptr), store.returns_count.get());
    }
  }
  void look_at_slabs() {
    for (Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
         chunk = chunk->next_chunk) {
      if (!spend(kStepsOfChunk)) return;
      for (const Slab& slab : chunk->slabs) {
        if (slab.owner.load(std::memory_order_relaxed) != thread_) continue;
        const unsigned c = slab.what().size_class;
        const Walk walk = walk_list(slab.free, c, &slab);
        if (!kHardened && was_freed(walk, c, &slab)) {
          if (may_tell_()) misuse_interior(Use::kFree, walk.wrong, &slab, kSeen);
        } else {
          report(slab.free, walk, slab.free_count());
        }
      }
    }
  }

 private:
  bool spend(uint32_t steps) {
    if (steps_ < steps) return false;
    steps_ -= steps;
    return true;
  }

  // What follows the block in its list. Hardened, the block is looked at as if it were used again;
  // false: it was written to where it has its link, as is reported. A first block may be live, as
  // one that is being taken off the list.
  bool go_on(const Block** block, unsigned c, bool is_first) {
    if constexpr (!kHardened) {
      *block = (*block)->next();
      return true;
    }
    const size_t size = class_size(c);
    if (is_first && hardened::look_at_seal(*block, size).state == hardened::State::kLive) {
      return false;
    }
    Block* next;
    if (!(*block)->read_next(&next)) {
      if (may_tell_()) misuse_write(*block, *block, address_map.find(*block), kSeen);
      return false;
    }
    if (!hardened::is_untouched(*block, hardened::canary_of(*block), size, true) && may_tell_()) {
      report_free_block(*block, c, kSeen);
    }
    *block = next;
    return true;
  }

  static uint32_t steps_of_wiped(unsigned c) {
    if constexpr (!kHardened) return 0;
    return static_cast<uint32_t>(hardened::wiped_bytes(class_size(c)) / kWipedOfStep);
  }

  // Rings are found by Brent's algorithm ("An improved Monte Carlo factorization algorithm", 1980):
  // a block is remembered, and another one after twice as many.
  Walk walk_list(const Block* first, unsigned c, const Slab* slab) {
    Walk walk;
    const Block* mark = nullptr;
    uint32_t next_mark = 1;
    for (const Block* block = first; block != nullptr;) {
      if ((walk.is_ring = block == mark)) return walk;
      if (!is_one(block, c, slab)) {
        walk.wrong = block;
        return walk;
      }
      const bool is_near = (address(block) ^ address(walk.last)) < os::page_size();
      const uint32_t steps = (is_near ? 1 : kStepsToPage) + steps_of_wiped(c);
      if (walk.seen == kMostOfList || !spend(steps)) return walk;
      walk.last = block;
      if (++walk.seen == next_mark) {
        mark = block;
        next_mark *= 2;
      }
      if (!go_on(&block, c, walk.seen == 1)) return walk;
    }
    walk.is_whole = true;
    return walk;
  }

  // Whether what ends the slab's list, where no block starts, was freed: then it was counted as one
  // that is free, as all behind it are. Else a link was written to.
  bool was_freed(const Walk& walk, unsigned c, const Slab* slab) {
    const Block* p = walk.wrong;
    const uintptr_t end = address(slab->start) + slab->slots * kSlotBytes;
    if (p == nullptr || address_map.find(p) != slab || address(p) + sizeof(Block) > end) {
      return false;
    }
    const Walk behind = walk_list(p->next(), c, slab);
    return behind.is_whole && walk.seen + 1 + behind.seen == slab->free_count();
  }

  // Of a list of which so many blocks are counted. What was freed twice was counted twice, which
  // tells it from what was written to.
  void report(const Block* first, const Walk& walk, uint64_t count) {
    if (walk.last == nullptr) return;
    if (walk.is_ring && may_tell_()) {
      const Block* twice = entry_of_ring(first, walk.last);
      if (blocks_of_ring(first, twice) < count) {
        return misuse_double_free(twice, address_map.find(twice), kSeen);
      }
    }
    // Written to after it was freed, or by who ran off the end of a block before: the program may
    // be as it ever was, and libc would let it end. It is for who asked.
    const bool is_short = walk.is_whole && walk.seen + kUnderWay < count;
    if (options.check && (walk.is_ring || walk.wrong != nullptr || is_short) && may_tell_()) {
      misuse_links(walk.last, address_map.find(walk.last), kSeen);
    }
  }

  // A block that is in the heap's hand, and is freed again, goes on its slab's list too: what it
  // leads to from then on is that list's. True if one was.
  bool report_tail(const Block* first, const Walk& walk, unsigned c) {
    if (!walk.is_whole || walk.last == nullptr) return false;
    const Slab* slab = address_map.find(walk.last);
    if (slab->owner.load(std::memory_order_relaxed) != thread_) return false;
    const Walk other = walk_list(slab->free, c, slab);
    if (!other.is_whole || other.last != walk.last || !may_tell_()) return false;
    misuse_double_free(meeting_point(first, walk.seen, slab->free, other.seen), slab, kSeen);
    return true;
  }

  Thread* thread_;
  bool (*may_tell_)();
  uint32_t steps_ = kSteps;
};

}  // namespace

void look_at_end(bool (*may_tell)()) {
  // Hardened, each block is looked at as it is freed and as it is used again; one that was written
  // to since, and did no harm, is for who asked.
  if (kHardened && !options.check) return;
  Thread* thread = tls.thread;
  if (Lock::all_held_by_me() || backend::is_inside() || !thread->lock.try_acquire()) return;
  LastLook look(thread, may_tell);
  thread->for_each_heap([&](Heap* heap) { look.look_at(heap); });
  look.look_at_slabs();
  thread->lock.release();
}

}  // namespace tally::core
