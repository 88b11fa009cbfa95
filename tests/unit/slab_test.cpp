#include "memory/slab.h"

#include <algorithm>
#include <atomic>

#include "base/math.h"
#include "base/preempt.h"
#include "fake_os.h"
#include "heap/purge.h"
#include "heap/slab_ops.h"
#include "memory/chunk.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// A tag of its own for each test, so that its heaps hold what the test put there and no more.
class SlabTest : public testing::Test {
 protected:
  SlabTest() {
    std::string path = "/unit/slab/";
    tag_ = make_tag((path + testing::UnitTest::GetInstance()->current_test_info()->name()).c_str());
  }
  void* allocate(size_t n) const {
    void* p = tally_malloc(tag_, n);
    EXPECT_NE(p, nullptr);
    return p;
  }
  std::vector<void*> allocate(size_t count, size_t n) const {
    std::vector<void*> blocks;
    for (size_t i = 0; i < count; ++i) blocks.push_back(allocate(n));
    return blocks;
  }
  // Fills the slab of p, which is the tag's first block of its size, until it is parked.
  std::vector<void*> fill_up(void* p, size_t n) const {
    std::vector<void*> blocks = {p};
    const Slab* slab = slab_of(p);
    while (!slab->parked.load()) blocks.push_back(allocate(n));
    EXPECT_EQ(blocks.size(), slab->capacity + 1U) << "the one more that found the slab full";
    tally_free(blocks.back());
    blocks.pop_back();
    return blocks;
  }
  static bool is_available(const Slab* slab) {
    unsigned c = slab->what().size_class;
    for (const Slab* s = slab->heap.load()->store[c].available; s != nullptr; s = s->next) {
      if (s == slab) return true;
    }
    return false;
  }

  tally_tag tag_;
};

TEST_F(SlabTest, ABatchOfANewSlabIsHandedOut) {
  void* p = allocate(48);
  const Slab* slab = slab_of(p);
  const Heap* heap = heap_of(tag_);
  unsigned c = class_of(48);
  uint32_t batch = kBatchBytes / 48;
  EXPECT_EQ(slab->what().kind, SlabKind::kBlocks);
  EXPECT_EQ(slab->what().tag, tag_);
  EXPECT_EQ(slab->what().size_class, c);
  EXPECT_EQ(slab->block_size, 48U);
  EXPECT_EQ(slab->owner.load(), tls.thread);
  EXPECT_EQ(slab->heap.load(), heap);
  EXPECT_EQ(slab->carved.load(), batch);
  EXPECT_EQ(slab->level.out(), batch);
  EXPECT_EQ(slab->remote.count(), 0U);
  EXPECT_EQ(slab->bytes.load(), round_up(size_t{batch} * 48, os::page_size()));
  EXPECT_EQ(heap->classes[c].handed.get(), batch);
  EXPECT_EQ(heap->classes[c].allocs.get(), 1U);
  EXPECT_EQ(heap->slabs, 1U);
  EXPECT_TRUE(is_available(slab));
  EXPECT_EQ(own(tag_).footprint_bytes, slab->bytes.load());
  tally_free(p);
}

TEST_F(SlabTest, CapacityIsWhatFitsInTheSlots) {
  for (unsigned c = 0; c < kClasses; ++c) {
    void* p = allocate(class_size(c));
    const Slab* slab = slab_of(p);
    size_t bytes = slots_of_slab(c) * kSlotBytes - (address(slab->start) & (kSlotBytes - 1));
    EXPECT_EQ(slab->capacity, bytes / class_size(c));
    EXPECT_GE(slab->capacity, 6U) << "the wake level needs some";
    EXPECT_LT(slab->wake_level(), slab->capacity);
    EXPECT_GE(slab->wake_level(), slab->capacity / 2);
    EXPECT_LE(slab->capacity, 4096U) << "the remote list counts in 16 bits";
    tally_free(p);
  }
}

TEST_F(SlabTest, BlocksAreDistinctAndInTheSlab) {
  for (size_t n : {size_t{16}, size_t{80}, size_t{1000}, kSmallMax, size_t{20000}, kMediumMax}) {
    std::vector<void*> blocks = fill_up(allocate(n), n);
    const Slab* slab = slab_of(blocks[0]);
    std::sort(blocks.begin(), blocks.end());
    for (size_t i = 0; i < blocks.size(); ++i) {
      EXPECT_EQ(blocks[i], slab->block_at(static_cast<uint32_t>(i)));
      EXPECT_TRUE(slab->is_block(blocks[i]));
      EXPECT_FALSE(slab->is_block(static_cast<char*>(blocks[i]) + 8));
      EXPECT_EQ(slab->index_of(static_cast<char*>(blocks[i]) + n - 1), i);
    }
    for (void* p : blocks) tally_free(p);
  }
}

TEST_F(SlabTest, AFullOneIsParkedAndWokenByItsOwner) {
  std::vector<void*> blocks = fill_up(allocate(512), 512);
  Slab* slab = slab_of(blocks[0]);
  EXPECT_TRUE(slab->parked.load());
  EXPECT_FALSE(is_available(slab));
  EXPECT_EQ(slab->level.out(), slab->capacity);
  EXPECT_EQ(slab->level.floor(), slab->wake_level());
  while (slab->level.out() > slab->wake_level() + 1) {
    tally_free(blocks.back());
    blocks.pop_back();
  }
  EXPECT_TRUE(slab->parked.load());
  tally_free(blocks.back());
  blocks.pop_back();
  EXPECT_FALSE(slab->parked.load());
  EXPECT_TRUE(is_available(slab));
  EXPECT_EQ(slab->level.floor(), 0U);
  for (void* p : blocks) tally_free(p);
}

// As the thread does at its next slow step.
void look() {
  LockGuard guard(tls.thread->lock);
  core::look_at_woken(tls.thread);
}

TEST_F(SlabTest, AFullOneIsWokenByOthers) {
  std::vector<void*> blocks = fill_up(allocate(512), 512);
  Slab* slab = slab_of(blocks[0]);
  uint32_t few = slab->capacity - slab->wake_level();
  auto free_on_another_thread = [&](uint32_t count) {
    on_thread([&] {
      for (uint32_t i = 0; i < count; ++i) {
        tally_free(blocks.back());
        blocks.pop_back();
      }
    });
  };
  free_on_another_thread(few - 1);
  EXPECT_EQ(slab->remote.count(), few - 1) << "a thread that ends gives all back";
  EXPECT_TRUE(slab->parked.load());
  free_on_another_thread(1);
  EXPECT_TRUE(slab->woken.load());
  look();
  EXPECT_FALSE(slab->woken.load());
  EXPECT_FALSE(slab->parked.load());
  EXPECT_TRUE(is_available(slab));
  for (void* p : blocks) tally_free(p);
}

// One block of others is not enough to wake it, and must not hide that all the rest came back.
TEST_F(SlabTest, AFewOfOthersDoNotHideThatItIsEmpty) {
  std::vector<void*> blocks = fill_up(allocate(512), 512);
  Slab* slab = slab_of(blocks[0]);
  on_thread([&] { tally_free(blocks[0]); });
  EXPECT_EQ(slab->remote.count(), 1U);
  for (size_t i = 1; i < blocks.size(); ++i) tally_free(blocks[i]);
  LockGuard guard(tls.thread->lock);
  core::release_empty(heap_of(tag_), 0);
  EXPECT_EQ(slab->what().kind, SlabKind::kFree);
}

// All its blocks come back at once, for a tag that takes no new ones: it never becomes available.
TEST_F(SlabTest, AParkedOneIsReleasedAndUsedAgain) {
  std::vector<void*> blocks = fill_up(allocate(512), 512);
  Slab* slab = slab_of(blocks[0]);
  ASSERT_TRUE(slab->parked.load());
  tally_tag_retire(tag_);
  on_thread([&] {
    for (void* p : blocks) tally_free(p);
  });
  look();
  EXPECT_EQ(slab->what().kind, SlabKind::kFree);
  EXPECT_FALSE(slab->parked.load());
}

TEST_F(SlabTest, AFullOneIsWokenByBothTogether) {
  std::vector<void*> blocks = fill_up(allocate(512), 512);
  Slab* slab = slab_of(blocks[0]);
  uint32_t few = slab->capacity - slab->wake_level();
  for (uint32_t i = 1; i < few; ++i) {
    tally_free(blocks.back());
    blocks.pop_back();
  }
  EXPECT_TRUE(slab->parked.load());
  on_thread([&] { tally_free(blocks.back()); });
  blocks.pop_back();
  look();
  EXPECT_FALSE(slab->parked.load());
  for (void* p : blocks) tally_free(p);
}

TEST_F(SlabTest, TheLastAvailableIsKeptWhenItIsEmpty) {
  void* p = allocate(20000);
  const Slab* slab = slab_of(p);
  tally_free(p);
  EXPECT_EQ(slab->what().kind, SlabKind::kBlocks);
  EXPECT_TRUE(slab->all_back());
  EXPECT_EQ(allocate(20000), p);
  tally_free(p);
  EXPECT_GT(core::purge_all(), 0U);
  EXPECT_EQ(slab->what().kind, SlabKind::kFree);
  EXPECT_EQ(own(tag_).footprint_bytes, 0U);
}

TEST_F(SlabTest, EmptyOnesAreUsedAgainOrReleasedByThePurge) {
  std::vector<void*> blocks = allocate(40, 20000);
  uint32_t slabs = heap_of(tag_)->slabs;
  EXPECT_GE(slabs, 2U);
  for (int round = 0; round < 3; ++round) {
    for (void* p : blocks) tally_free(p);
    EXPECT_EQ(heap_of(tag_)->slabs, slabs);
    EXPECT_EQ(own(tag_).live_blocks, 0U);
    blocks = allocate(40, 20000);
  }
  for (void* p : blocks) tally_free(p);
  core::purge_all();
  EXPECT_EQ(heap_of(tag_)->slabs, 0U);
}

TEST_F(SlabTest, BlocksThatOthersFreedEmptyASlabToo) {
  std::vector<void*> blocks = allocate(40, 20000);
  on_thread([&] {
    for (void* p : blocks) tally_free(p);
  });
  EXPECT_EQ(own(tag_).live_blocks, 0U);
  {
    LockGuard guard(tls.thread->lock);
    core::release_all_empty(tls.thread, 0);
  }
  EXPECT_LE(heap_of(tag_)->slabs, 1U) << "but for the one whose last blocks are in hand";
}

#if TALLY_CHECKS  // else nobody can come between
void release_what_is_back(const char* point) {
  if (strcmp(point, "walk: a slab is half read") != 0) return;
  point_hook = nullptr;
  on_thread([] { tally_trim(); });
}

TEST_F(SlabTest, WhatIsReleasedWhileItIsReadIsNotCountedAsLive) {
  std::vector<void*> blocks = fill_up(allocate(256), 256);
  Slab* slab = slab_of(blocks[0]);
  on_thread([&] {
    for (void* p : blocks) tally_free(p);
  });
  ASSERT_EQ(slab->remote.count(), slab->level.out()) << "nobody has looked since";
  point_hook = release_what_is_back;
  EXPECT_EQ(own(tag_).live_blocks, 0U);
  ASSERT_EQ(point_hook.load(), nullptr);
  EXPECT_NE(slab->what().kind, SlabKind::kBlocks);
}
#endif

// Freed in any order, a slab of small blocks is carved anew, so that neighbours in time are
// neighbours in memory; in order, it is handed out as it is.
TEST_F(SlabTest, AScatteredEmptySlabIsCarvedAnew) {
  for (bool shuffled : {true, false}) {
    std::vector<void*> blocks = allocate(3000, 64);
    if (shuffled) {
      Random random(3);
      for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random.below(i)]);
    }
    for (void* p : blocks) tally_free(p);
    blocks = allocate(3000, 64);
    int in_order = 0;
    for (size_t i = 1; i < blocks.size(); ++i) {
      auto step = static_cast<char*>(blocks[i]) - static_cast<char*>(blocks[i - 1]);
      in_order += step == 64 || step == -64;
    }
    EXPECT_GT(in_order, 1800) << "one slab's worth may be left in hand";
    for (void* p : blocks) tally_free(p);
    core::purge_all();
  }
}

TEST_F(SlabTest, BlocksOfOthersAreCollectedToGoBackTogether) {
  void* p = allocate(100);
  on_thread([&] {
    tally_free(p);
    EXPECT_EQ(slab_of(p)->remote.count(), 0U) << "it did not go home yet";
    EXPECT_EQ(heap_of(tag_)->store[class_of(100)].returns_count.get(), 1U);
    EXPECT_EQ(own(tag_).live_blocks, 0U) << "but is counted as free";
  });
  EXPECT_EQ(slab_of(p)->remote.count(), 1U);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(SlabTest, NoThreadKeepsMuchThatItIsNotTheOwnerOf) {
  for (size_t n : {size_t{16}, size_t{1024}, size_t{16384}, kMediumMax}) {
    unsigned c = class_of(n);
    std::vector<void*> blocks = allocate(4 * kReturnBytes / n + 4, n);
    on_thread([&] {
      for (void* p : blocks) {
        tally_free(p);
        ASSERT_LT(heap_of(tag_)->store[c].returns_count.get() * n, kReturnBytes);
      }
      EXPECT_EQ(own(tag_).live_blocks, 0U);
    });
  }
}

TEST_F(SlabTest, ARetiredTagsSlabGoesWithItsLastBlock) {
  std::vector<void*> blocks = allocate(10, 20000);
  const Slab* slab = slab_of(blocks[0]);
  EXPECT_EQ(tally_tag_retire(tag_), 0);
  for (size_t i = 0; i + 1 < blocks.size(); ++i) tally_free(blocks[i]);
  EXPECT_EQ(own(tag_).live_blocks, 1U);
  tally_free(blocks.back());
  EXPECT_NE(slab->what().tag == tag_ && slab->what().kind == SlabKind::kBlocks, true);
  EXPECT_EQ(own(tag_).footprint_bytes, 0U);
}

TEST_F(SlabTest, WithoutMemoryAParkedOneGivesWhatItHas) {
  std::vector<void*> blocks = fill_up(allocate(1000), 1000);
  Slab* slab = slab_of(blocks[0]);
  void* left[] = {blocks[3], blocks[7]};
  for (void* p : left) tally_free(p);
  ASSERT_TRUE(slab->parked.load()) << "two are too few to wake it";
  fake_os::Failing no_maps(fake_os::kMap);
  std::vector<void*> more;
  while (void* p = tally_malloc(tag_, 1000)) more.push_back(p);
  fake_os::fail_none();
  for (void* p : left) EXPECT_EQ(std::count(more.begin(), more.end(), p), 1);
  for (void* p : more) tally_free(p);
  for (void* p : blocks) {
    if (p != left[0] && p != left[1]) tally_free(p);
  }
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(SlabTest, OfAnOrphanIsTakenOver) {
  std::vector<void*> blocks;
  Thread* gone = nullptr;
  on_thread([&] {
    blocks = allocate(10, 100);
    gone = tls.thread;
  });
  Slab* slab = slab_of(blocks[0]);
  ASSERT_EQ(slab->owner.load(), gone);
  ASSERT_TRUE(gone->orphan.load());
  void* p = allocate(100);
  EXPECT_EQ(slab_of(p), slab) << "rather than a new slab";
  EXPECT_EQ(slab->owner.load(), tls.thread);
  EXPECT_EQ(slab->heap.load(), heap_of(tag_));
  EXPECT_EQ(heap_of(tag_)->slabs, 1U);
  for (void* q : blocks) tally_free(q);
  tally_free(p);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(SlabTest, OfAThreadThatRunsIsNotTakenOver) {
  std::atomic<int> step{0};
  void* theirs = nullptr;
  std::thread other([&] {
    theirs = allocate(100);
    step.store(1);
    while (step.load() != 2) std::this_thread::yield();
    tally_free(theirs);
  });
  while (step.load() != 1) std::this_thread::yield();
  void* p = allocate(100);
  EXPECT_NE(slab_of(p), slab_of(theirs));
  EXPECT_NE(slab_of(p)->owner.load(), slab_of(theirs)->owner.load());
  step.store(2);
  other.join();
  tally_free(p);
}

// The remote list by itself.
TEST(RemoteList, TakesAllOrNothing) {
  RemoteList list;
  Block blocks[5];
  EXPECT_EQ(list.take().first, nullptr);
  blocks[0].link(&blocks[1]);
  EXPECT_EQ(list.push(&blocks[0], &blocks[1], 2), 2U);
  EXPECT_EQ(list.push(&blocks[2], &blocks[2], 1), 3U);
  EXPECT_EQ(list.count(), 3U);
  RemoteList::Taken taken = list.take();
  EXPECT_EQ(taken.count, 3U);
  EXPECT_EQ(taken.first, &blocks[2]);
  EXPECT_EQ(blocks[2].next(), &blocks[0]);
  EXPECT_EQ(blocks[1].next(), nullptr);
  EXPECT_EQ(list.count(), 0U);
  EXPECT_EQ(list.take().count, 0U);
}

TEST(RemoteList, NothingIsLostBetweenPushersAndTaker) {
  constexpr unsigned kThreads = 3, kEach = 20000;
  RemoteList list;
  std::vector<std::vector<Block>> blocks(kThreads, std::vector<Block>(kEach));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < kEach; ++i) {
        while (list.count() > 60000) std::this_thread::yield();  // as a slab has no more
        EXPECT_GE(list.push(&blocks[t][i], &blocks[t][i], 1), 1U);
      }
    });
  }
  unsigned seen = 0;
  while (seen < kThreads * kEach) {
    RemoteList::Taken taken = list.take();
    unsigned count = 0;
    for (Block* block = taken.first; block != nullptr; block = block->next()) ++count;
    ASSERT_EQ(count, taken.count);
    seen += count;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(list.count(), 0U);
}

TEST(Binding, PacksAndUnpacks) {
  for (SlabKind kind : {SlabKind::kFree, SlabKind::kBlocks, SlabKind::kRun, SlabKind::kSpan}) {
    Binding what = Binding::unpack(Binding{kind, kClasses - 1, 65534}.pack());
    EXPECT_EQ(what.kind, kind);
    EXPECT_EQ(what.size_class, kClasses - 1);
    EXPECT_EQ(what.tag, 65534U);
  }
  EXPECT_EQ((Binding{SlabKind::kFree, 0, 0}.pack()), 0U) << "what a descriptor of zeroes says";
}

// The owner's free that empties the slab takes the lock only after the block is back. In between
// another thread's purge may release the slab, and on_level must notice.
TEST_F(SlabTest, TheOwnersLastFreeMeetsAnothersPurge) {
  std::atomic<bool> stop{false};
  std::thread purger([&] {
    while (!stop.load()) core::purge_all();
  });
  uint64_t until = os::now_ms() + 1500;
  while (os::now_ms() < until) {
    for (int i = 0; i < 1000; ++i) tally_free(tally_malloc(tag_, 20000));
  }
  stop.store(true);
  purger.join();
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

}  // namespace
}  // namespace tally::unit
