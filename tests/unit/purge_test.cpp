#include "heap/purge.h"

#include <bit>

#include "base/config.h"
#include "fake_os.h"
#include "heap/heap.h"
#include "memory/chunk.h"
#include "os/os.h"
#include "os/resident.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

class PurgeTest : public testing::Test {
 protected:
  PurgeTest() {
    options.purge_ms = 1000;
    // Long after what another test had refused.
    static uint64_t clock = 0;
    fake_os::set_clock(clock += 1000000);
    purge_all();
  }
  // A GiB would do as well; what matters is that it is more than noise.
  static std::vector<void*> touch(tally_tag tag, size_t total, size_t n) {
    std::vector<void*> blocks;
    for (size_t have = 0; have < total; have += n) {
      blocks.push_back(tally_malloc(tag, n));
      memset(blocks.back(), 1, n);
    }
    return blocks;
  }
  static bool any_dirty() {
    for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
      if (chunk->dirty_slots != 0) return true;
    }
    return false;
  }

  static size_t dirty_bytes() {
    size_t slots = 0;
    for (const Chunk* chunk = all_chunks.load(); chunk != nullptr; chunk = chunk->next_chunk) {
      slots += static_cast<size_t>(std::popcount(uint64_t{chunk->dirty_slots}));
    }
    return slots * kSlotBytes;
  }

  KeepOptions keep_;
};

TEST_F(PurgeTest, AllOfEachKindGoesBack) {
  tally_tag tag = make_tag("/unit/purge/all");
  for (size_t n : {size_t{64}, size_t{30000}, size_t{400000}, 2 * MiB}) {
    std::vector<void*> blocks = touch(tag, 40 * MiB, n);
    size_t resident = os::resident().all;
    for (void* p : blocks) tally_free(p);
    EXPECT_GT(purge_all(), 0U) << n;
    EXPECT_LT(os::resident().all, resident - 30 * MiB) << n;
    EXPECT_EQ(own(tag).footprint_bytes, 0U);
    EXPECT_EQ(purge_all(), 0U);
    EXPECT_FALSE(any_dirty());
  }
}

TEST_F(PurgeTest, WhatIsLiveStays) {
  tally_tag tag = make_tag("/unit/purge/live");
  std::vector<void*> blocks = touch(tag, 4 * MiB, 1000);
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 100 != 0) tally_free(blocks[i]);
  }
  purge_all();
  for (size_t i = 0; i < blocks.size(); i += 100) {
    EXPECT_TRUE(is_filled(blocks[i], 1000, 0));
    tally_free(blocks[i]);
  }
}

TEST_F(PurgeTest, TheTickWaitsForTheClock) {
  tally_tag tag = make_tag("/unit/purge/tick");
  purge_tick();
  std::vector<void*> blocks = touch(tag, 8 * MiB, 400000);
  for (void* p : blocks) tally_free(p);
  fake_os::advance_clock(999);
  purge_tick();
  EXPECT_TRUE(any_dirty()) << "young";
  fake_os::advance_clock(100);
  purge_tick();
  EXPECT_TRUE(any_dirty()) << "the last look was just now";
  fake_os::advance_clock(200);
  purge_tick();
  EXPECT_FALSE(any_dirty());
}

TEST_F(PurgeTest, ZeroMeansAtOnce) {
  options.purge_ms = 0;
  tally_tag tag = make_tag("/unit/purge/zero");
  std::vector<void*> blocks = touch(tag, 8 * MiB, 400000);
  for (void* p : blocks) tally_free(p);
  EXPECT_FALSE(any_dirty());
  blocks = touch(tag, 8 * MiB, 3 * MiB);
  for (void* p : blocks) tally_free(p);
  EXPECT_EQ(purge_all(), 0U) << "nothing was kept";
}

// Its owner and another thread give a slab's last two blocks back at once: neither may see that it
// is empty.
TEST_F(PurgeTest, TheTickReleasesWhatNobodySawEmpty) {
  tally_tag tag = make_tag("/unit/purge/unseen");
  std::vector<void*> blocks;
  for (int i = 0; i < 5; ++i) blocks.push_back(tally_malloc(tag, 50000));
  Slab* slab = slab_of(blocks[0]);
  ASSERT_FALSE(slab->parked.load());
  // As if: all are pushed, and no pusher sees that they are all.
  for (void* p : blocks) {
    auto* block = static_cast<Block*>(p);
    slab->remote.push(block, block, 1);
  }
  ASSERT_TRUE(slab->all_back());
  EXPECT_EQ(slab->what().kind, SlabKind::kBlocks);
  fake_os::advance_clock(5000);
  purge_tick();
  EXPECT_EQ(slab->what().kind, SlabKind::kFree);
}

TEST_F(PurgeTest, AllReleasesTheSlabsOfOrphans) {
  tally_tag tag = make_tag("/unit/purge/orphan");
  void* p = nullptr;
  on_thread([&] { p = tally_malloc(tag, 40000); });
  Slab* slab = slab_of(p);
  tally_free(p);  // collected by this thread, or home already
  EXPECT_GT(purge_all(), 0U);
  EXPECT_EQ(slab->what().kind, SlabKind::kFree);
  EXPECT_EQ(own(tag).footprint_bytes, 0U);
}

TEST_F(PurgeTest, TheSystemMayRefuse) {
  tally_tag tag = make_tag("/unit/purge/refused");
  std::vector<void*> blocks = touch(tag, 8 * MiB, 400000);
  for (void* p : blocks) tally_free(p);
  {
    fake_os::Failing refused(fake_os::kPurge | fake_os::kUnmap);
    EXPECT_EQ(purge_all(), 0U);
  }
  EXPECT_TRUE(any_dirty());
  blocks = touch(tag, 8 * MiB, 400000);
  for (void* p : blocks) tally_free(p);
  EXPECT_GE(purge_all(), 8 * MiB);
}

// The clock stands still: nothing goes back by time.
TEST_F(PurgeTest, NoMoreWaitsThanMay) {
  tally_tag tag = make_tag("/unit/purge/most");
  for (size_t n : {size_t{1000}, size_t{400000}}) {
    std::vector<void*> blocks = touch(tag, 150 * MiB, n);
    for (void* p : blocks) tally_free(p);
    size_t kept = own(tag).footprint_bytes;
    EXPECT_LE(kept, most_waiting() + MiB) << "empty slabs, " << n;
    EXPECT_LE(dirty_bytes(), most_waiting() + 8 * MiB) << n;
    EXPECT_GT(kept + dirty_bytes(), 32 * MiB) << "some is kept for what comes next, " << n;
    purge_all();
  }
}

TEST_F(PurgeTest, ASystemThatRefusesIsNotAskedAllTheTime) {
  tally_tag tag = make_tag("/unit/purge/often");
  std::vector<void*> blocks = touch(tag, 200 * MiB, 400000);
  fake_os::Failing refused(fake_os::kPurge);
  size_t freed = 0;
  while (fake_os::calls() == 0 && freed < blocks.size()) tally_free(blocks[freed++]);
  ASSERT_LT(freed, blocks.size() / 2);
  uint64_t calls = fake_os::calls();
  while (freed < blocks.size()) tally_free(blocks[freed++]);
  EXPECT_EQ(fake_os::calls(), calls);
  fake_os::advance_clock(options.purge_ms + 1);
  tally_free(tally_malloc(tag, 400000));
  EXPECT_GT(fake_os::calls(), calls) << "but again later";
  fake_os::fail_none();
  purge_all();
}

}  // namespace
}  // namespace tally::unit
