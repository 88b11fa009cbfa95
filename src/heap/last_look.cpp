#include "heap/last_look.h"

#include "backend/backend.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "memory/address_map.h"
#include "memory/chunk.h"
#include "os/os.h"

namespace tally::core {
namespace {

constexpr const char* kSeen = "the end of the process";

// The end is to take some tenths of a millisecond more at most. A step is a block that is looked
// at; to another page, which is in no cache, it counts as many.
constexpr uint32_t kSteps = 8192, kStepsToPage = 16;
constexpr uint32_t kStepsOfChunk = 64;
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

// Of a pointer on a list of the slab's, to where none of its blocks starts: it was freed, so that a
// block follows, and is not what is left of a link that was written to.
bool was_freed(const Block* p, const Slab* slab) {
  const uintptr_t end = address(slab->start) + slab->slots * kSlotBytes;
  if (address_map.find(p) != slab || address(p) + sizeof(Block) > end) return false;
  return p->next() == nullptr || is_one(p->next(), slab->what().size_class, slab);
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

  explicit LastLook(Thread* thread) : thread_(thread) {}

  // The lists that the heap allocates from, and of what it is to give back.
  void look_at(Heap* heap) {
    for (unsigned c = 0; c < kClasses; ++c) {
      Heap::Class& of = heap->classes[c];
      const Walk walk = walk_list(of.list, c, nullptr);
      const uint64_t in_hand = of.handed.get() - of.allocs.get();
      const bool is_short = of.list != nullptr && walk.is_whole && walk.seen + kUnderWay < in_hand;
      if (!report_tail(of.list, walk, c)) report(of.list, walk, nullptr, is_short);
      report(heap->store[c].returns, walk_list(heap->store[c].returns, c, nullptr), nullptr, false);
    }
  }
  void look_at_slabs() {
    for (Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
         chunk = chunk->next_chunk) {
      if (!spend(kStepsOfChunk)) return;
      for (const Slab& slab : chunk->slabs) {
        if (slab.owner.load(std::memory_order_relaxed) != thread_) continue;
        const Walk walk = walk_list(slab.free, slab.what().size_class, &slab);
        const bool is_short = walk.is_whole && walk.seen + kUnderWay < slab.free_count();
        report(slab.free, walk, &slab, is_short);
      }
    }
  }

 private:
  bool spend(uint32_t steps) {
    if (steps_ < steps) return false;
    steps_ -= steps;
    return true;
  }

  // Rings are found by Brent's algorithm ("An improved Monte Carlo factorization algorithm", 1980):
  // a block is remembered, and another one after twice as many.
  Walk walk_list(const Block* first, unsigned c, const Slab* slab) {
    Walk walk;
    const Block* mark = nullptr;
    uint32_t next_mark = 1;
    for (const Block* block = first; block != nullptr; block = block->next()) {
      if ((walk.is_ring = block == mark)) return walk;
      if (!is_one(block, c, slab)) {
        walk.wrong = block;
        return walk;
      }
      const bool is_near = (address(block) ^ address(walk.last)) < os::page_size();
      if (walk.seen == kMostOfList || !spend(is_near ? 1 : kStepsToPage)) return walk;
      walk.last = block;
      if (++walk.seen != next_mark) continue;
      mark = block;
      next_mark *= 2;
    }
    walk.is_whole = true;
    return walk;
  }

  static void report(const Block* first, const Walk& walk, const Slab* slab, bool is_short) {
    if (walk.is_ring) {
      const Block* twice = entry_of_ring(first, walk.last);
      return misuse_double_free(twice, address_map.find(twice), kSeen);
    }
    if (walk.wrong != nullptr && slab != nullptr && was_freed(walk.wrong, slab)) {
      return misuse_interior(Use::kFree, walk.wrong, slab, kSeen);
    }
    if (walk.last == nullptr || (walk.wrong == nullptr && !is_short)) return;
    misuse_links(walk.last, address_map.find(walk.last), kSeen);
  }

  // A block that is in the heap's hand, and is freed again, goes on its slab's list too: what it
  // leads to from then on is that list's. True if one was.
  bool report_tail(const Block* first, const Walk& walk, unsigned c) {
    if (!walk.is_whole || walk.last == nullptr) return false;
    const Slab* slab = address_map.find(walk.last);
    if (slab->owner.load(std::memory_order_relaxed) != thread_) return false;
    const Walk other = walk_list(slab->free, c, slab);
    if (!other.is_whole || other.last != walk.last) return false;
    misuse_double_free(meeting_point(first, walk.seen, slab->free, other.seen), slab, kSeen);
    return true;
  }

  Thread* thread_;
  uint32_t steps_ = kSteps;
};

}  // namespace

void look_at_end() {
  // Hardened, each block is looked at as it is freed and as it is used again.
  if constexpr (kHardened) return;
  Thread* thread = tls.thread;
  if (Lock::all_held_by_me() || backend::is_inside() || !thread->lock.try_acquire()) return;
  LastLook look(thread);
  thread->for_each_heap([&](Heap* heap) { look.look_at(heap); });
  look.look_at_slabs();
  thread->lock.release();
}

}  // namespace tally::core
