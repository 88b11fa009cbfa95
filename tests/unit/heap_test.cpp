#include "heap/heap.h"

#include "heap/allocate.h"
#include "heap/free.h"
#include "heap/purge.h"
#include "heap/slab_ops.h"
#include "memory/chunk.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// The equation of heap.h, summed from the structs: live blocks of a tag and class.
uint64_t live(tally_tag tag, unsigned c) {
  uint64_t live = 0;
  for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
    for (const Slab& slab : chunk->slabs) {
      Binding what = slab.what();
      if (what.kind != SlabKind::kBlocks || what.tag != tag || what.size_class != c) continue;
      live += slab.level.out() - slab.remote.count();
    }
  }
  for (const Heap* heap = all_heaps.load(); heap != nullptr; heap = heap->next_heap) {
    const Tag* of = heap->tag.load();
    if (of == nullptr || of->id != tag) continue;
    live -= heap->classes[c].handed.get() - heap->classes[c].allocs.get() +
            heap->store[c].returns_count.get();
  }
  return live;
}

uint32_t length(const Block* list) {
  uint32_t n = 0;
  for (; list != nullptr; list = list->next()) ++n;
  return n;
}

// What this thread's heap holds in hand is what its counters say.
void expect_valid(const Heap* heap) {
  uint32_t slabs = 0;
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_EQ(heap->classes[c].handed.get() - heap->classes[c].allocs.get(),
              length(heap->classes[c].list));
    EXPECT_EQ(heap->store[c].returns_count.get(), length(heap->store[c].returns));
  }
  for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
    for (const Slab& slab : chunk->slabs) {
      if (!slab.is_blocks() || slab.heap.load() != heap) continue;
      ++slabs;
      uint32_t free_count = length(slab.free);
      EXPECT_EQ(slab.carved.load(), free_count + slab.level.out() + slab.in_holes);
      EXPECT_LE(slab.remote.count(), slab.level.out());
      EXPECT_LE(slab.carved.load(), slab.capacity);
      // It is in one list, or parked.
      unsigned c = slab.what().size_class;
      int places = slab.parked.load() ? 1 : 0;
      for (const Slab* s = heap->store[c].available; s != nullptr; s = s->next)
        places += s == &slab;
      for (const Slab* s = heap->store[c].empty; s != nullptr; s = s->next) {
        places += s == &slab;
        ASSERT_TRUE(s->all_back());
      }
      EXPECT_EQ(places, 1);
    }
  }
  EXPECT_EQ(heap->slabs, slabs);
}

TEST(Heap, TheEmptyOneGivesNothing) {
  for (size_t n : {size_t{0}, size_t{1}, size_t{16}, kLinearMax, kLinearMax + 1, kSmallMax,
                   kSmallMax + 1, kMediumMax + 1, SIZE_MAX}) {
    EXPECT_EQ(allocate_from(&empty_heap, n), nullptr) << n;
  }
  EXPECT_TRUE(is_zero(&empty_heap, sizeof empty_heap));
}

TEST(Heap, CountsWhatIsAllocatedAndWhatWasAskedFor) {
  tally_tag tag = make_tag("/unit/heap/counts");
  std::vector<void*> blocks;
  uint64_t requested[kClasses] = {}, allocs[kClasses] = {};
  for (size_t n = 1; n <= kMediumMax; n += 1 + n / 7) {
    blocks.push_back(tally_malloc(tag, n));
    requested[class_of(n)] += n;
    ++allocs[class_of(n)];
  }
  const Heap* heap = heap_of(tag);
  for (unsigned c = 0; c < kClasses; ++c) {
    EXPECT_EQ(heap->classes[c].allocs.get(), allocs[c]);
    EXPECT_EQ(heap->classes[c].requested.get(), requested[c]);
    EXPECT_EQ(live(tag, c), allocs[c]);
  }
  expect_valid(heap);
  for (void* p : blocks) tally_free(p);
  for (unsigned c = 0; c < kClasses; ++c) EXPECT_EQ(live(tag, c), 0U);
  expect_valid(heap);
}

TEST(Heap, RefillTakesWhatCameBackThenNeverUsedOnesThenANewSlab) {
  tally_tag tag = make_tag("/unit/heap/refill");
  unsigned c = class_of(200);
  std::vector<void*> blocks = {tally_malloc(tag, 200)};
  const Heap* heap = heap_of(tag);
  const Slab* slab = slab_of(blocks[0]);
  while (heap->classes[c].list != nullptr) blocks.push_back(tally_malloc(tag, 200));
  void* back = blocks[3];
  tally_free(back);
  uint32_t carved = slab->carved.load();
  EXPECT_EQ(tally_malloc(tag, 200), back);
  EXPECT_GT(slab->carved.load(), carved) << "one alone is little";
  while (heap->classes[c].list != nullptr) blocks.push_back(tally_malloc(tag, 200));
  EXPECT_EQ(slab_of(blocks.back()), slab);
  EXPECT_EQ(slab->carved.load(), blocks.size());
  blocks.push_back(tally_malloc(tag, 200));
  on_thread([&] { tally_free(back); });
  while (slab->remote.count() != 0) blocks.push_back(tally_malloc(tag, 200));
  while (slab_of(blocks.back()) == slab) blocks.push_back(tally_malloc(tag, 200));
  EXPECT_EQ(slab->carved.load(), slab->capacity) << "a new slab only when this one has no more";
  EXPECT_EQ(heap->slabs, 2U);
  expect_valid(heap);
  uint64_t back_again = 0;
  for (void* p : blocks) {
    if (p == back && back_again++ != 0) continue;  // it came twice, the second time anew
    tally_free(p);
  }
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

TEST(Heap, FlushGivesBackAllThatIsInHand) {
  tally_tag tag = make_tag("/unit/heap/flush");
  void* theirs = tally_malloc(tag, 100);
  on_thread([&] {
    std::vector<void*> blocks;
    for (size_t n : {16UL, 100UL, 3000UL, 30000UL}) blocks.push_back(tally_malloc(tag, n));
    tally_free(theirs);
    Heap* heap = heap_of(tag);
    Block* foreign;
    {
      LockGuard guard(tls.thread->lock);
      foreign = flush(heap, nullptr);
    }
    EXPECT_EQ(static_cast<void*>(foreign), theirs) << "in front of what was borrowed";
    for (const Block* b = foreign; b != nullptr; b = b->next()) {
      EXPECT_NE(slab_of(b)->owner.load(), tls.thread);
    }
    give_foreign(foreign);
    for (unsigned c = 0; c < kClasses; ++c) {
      EXPECT_EQ(heap->classes[c].list, nullptr);
      EXPECT_EQ(heap->store[c].returns, nullptr);
      EXPECT_EQ(heap->classes[c].handed.get(), heap->classes[c].allocs.get());
    }
    expect_valid(heap);
    EXPECT_EQ(own(tag).live_blocks, 4U);
    for (void* p : blocks) tally_free(p);
    {
      LockGuard guard(tls.thread->lock);
      EXPECT_GT(release_empty(heap, ~0U), 0U);
      EXPECT_EQ(heap->slabs, 0U);
    }
    EXPECT_EQ(own(tag).live_blocks, 0U);
  });
}

TEST(Heap, ReleaseEmptyFindsAllThatAreKept) {
  tally_tag tag = make_tag("/unit/heap/most");
  std::vector<void*> blocks;
  for (int i = 0; i < 200; ++i) blocks.push_back(tally_malloc(tag, kMediumMax));
  for (void* p : blocks) tally_free(p);
  Heap* heap = heap_of(tag);
  LockGuard guard(tls.thread->lock);
  uint32_t slabs = heap->slabs;
  EXPECT_GE(slabs, 25U);
  EXPECT_EQ(release_empty(heap, 0), slabs);
  EXPECT_EQ(heap->slabs, 0U);
}

// Random work of two threads in turns, with every count checked against the test's own.
TEST(Heap, TheEquationHoldsAtEachStep) {
  tally_tag tags[2] = {make_tag("/unit/heap/eq/a"), make_tag("/unit/heap/eq/b")};
  struct Held {
    void* p;
    size_t n;
    unsigned tag, seed;
  };
  std::vector<Held> held;
  Random random(7);
  uint64_t blocks[2][kClasses] = {};
  auto work = [&](unsigned steps) {
    for (unsigned i = 0; i < steps; ++i) {
      if (held.empty() || random.below(100) < 52) {
        unsigned tag = static_cast<unsigned>(random.below(2));
        size_t n = 1 + random.below(size_t{1} << (4 + random.below(13)));
        if (n > kMediumMax) n = kMediumMax;
        void* p = tally_malloc(tags[tag], n);
        ASSERT_NE(p, nullptr);
        unsigned seed = static_cast<unsigned>(random.next());
        fill(p, n, seed);
        held.push_back({p, n, tag, seed});
        ++blocks[tag][class_of(n)];
      } else {
        size_t which = random.below(held.size());
        Held one = held[which];
        ASSERT_TRUE(is_filled(one.p, one.n, one.seed));
        tally_free(one.p);
        --blocks[one.tag][class_of(one.n)];
        held[which] = held.back();
        held.pop_back();
      }
    }
  };
  auto check = [&] {
    for (unsigned tag = 0; tag < 2; ++tag) {
      uint64_t sum = 0;
      for (unsigned c = 0; c < kClasses; ++c) {
        ASSERT_EQ(live(tags[tag], c), blocks[tag][c]) << c;
        sum += blocks[tag][c] * class_size(c);
      }
      tally_counts counts = own(tags[tag]);
      ASSERT_EQ(counts.live_bytes, sum);
      ASSERT_GE(counts.footprint_bytes, counts.live_bytes);
      ASSERT_GE(counts.peak_footprint_bytes, counts.footprint_bytes);
      if (Heap* heap = heap_of(tags[tag])) expect_valid(heap);
    }
  };
  std::atomic<unsigned> turn{0};
  constexpr unsigned kTurns = 60;
  auto body = [&](unsigned parity) {
    for (unsigned i = parity; i < kTurns; i += 2) {
      while (turn.load() != i) std::this_thread::yield();
      work(300);
      check();
      if (i % 20 == 19) core::purge_all();
      check();
      turn.store(i + 1);
    }
  };
  std::thread other([&] { body(1); });
  body(0);
  other.join();
  check();
  for (const Held& one : held) tally_free(one.p);
  EXPECT_EQ(own(tags[0]).live_blocks, 0U);
  EXPECT_EQ(own(tags[1]).live_blocks, 0U);
}

// The same without turns: afterwards nothing may be missing.
TEST(Heap, NothingIsLostAmongThreads) {
  tally_tag tag = make_tag("/unit/heap/race");
  constexpr unsigned kThreads = 3, kShared = 64;
  std::atomic<void*> shared[kShared] = {};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Random random(t + 1);
      for (unsigned i = 0; i < 30000; ++i) {
        size_t n = 8 + random.below(random.below(16) == 0 ? kMediumMax - 8 : 600);
        void* p = tally_malloc(tag, n);
        ASSERT_NE(p, nullptr);
        memset(p, static_cast<int>(t), 8);
        tally_free(shared[random.below(kShared)].exchange(p));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (auto& p : shared) tally_free(p.load());
  for (unsigned c = 0; c < kClasses; ++c) EXPECT_EQ(live(tag, c), 0U) << c;
  EXPECT_EQ(own(tag).live_blocks, 0U);
  EXPECT_EQ(own(tag).alloc_count, kThreads * 30000U);
}

}  // namespace
}  // namespace tally::unit
