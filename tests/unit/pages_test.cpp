#include "stats/pages.h"

#include <vector>

#include "base/config.h"
#include "fake_os.h"
#include "heap/holes.h"
#include "heap/purge.h"
#include "os/os.h"
#include "os/resident.h"
#include "stats/walk.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(Stretches, JoinNeighboursInWhateverOrder) {
  Stretch to[8];
  Stretches stretches(to, 8);
  auto add = [&](uintptr_t start, uintptr_t end) {
    stretches.add(reinterpret_cast<void*>(start), end - start);
  };
  for (uintptr_t at : {5, 1, 3, 7, 2}) add(at * 4096, (at + 1) * 4096);
  ASSERT_EQ(stretches.finish(), 3U);
  EXPECT_EQ(to[0].start, 4096U);
  EXPECT_EQ(to[0].end, 4U * 4096);
  EXPECT_EQ(to[2].end, 8U * 4096);
  EXPECT_EQ(stretches.left_out(), 0U);
}

TEST(Stretches, CountWhatThereIsNoRoomFor) {
  Stretch to[4];
  Stretches stretches(to, 4);
  for (uintptr_t i = 1; i <= 10; ++i) stretches.add(reinterpret_cast<void*>(i * 8192), 4096);
  EXPECT_EQ(stretches.finish(), 4U);
  EXPECT_EQ(stretches.left_out(), 6U);
}

Pages look(std::vector<Stretch>* stretches = nullptr) {
  tally_snapshot_t* snapshot = take_snapshot();
  uint64_t blocks = 0, bytes = 0;
  for (uint64_t i = 0; i < snapshot->tag_count; ++i) {
    blocks += snapshot->tags[i].own.large_live_blocks;
    bytes += snapshot->tags[i].own.large_live_bytes;
  }
  free_snapshot(snapshot);
  Stretch to[1024];
  Stretches all(to, 1024);
  Pages pages = look_at_pages(blocks, bytes, &all);
  size_t count = all.finish();
  if (stretches != nullptr) stretches->assign(to, to + count);
  return pages;
}

bool is_in(const std::vector<Stretch>& stretches, const void* p) {
  for (const Stretch& one : stretches) {
    if (one.start <= address(p) && address(p) < one.end) return true;
  }
  return false;
}

TEST(Pages, OfLargeBlocksThoseThatNobodyWroteToAreUntouched) {
  const tally_tag tag = make_tag("/pages");
  close_no_more();
  Pages before = look();
  char* run = static_cast<char*>(tally_malloc(tag, 500000));
  char* span = static_cast<char*>(tally_malloc(tag, 10 * MiB));
  memset(span, 1, 3 * MiB);
  memset(run, 1, 100000);
  std::vector<Stretch> stretches;
  Pages now = look(&stretches);
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));  // what becomes resident
  const uint64_t untouched = round_up(500000, os::page_size()) - round_up(100000, page) + 7 * MiB;
  EXPECT_EQ(now.untouched, before.untouched + untouched);
  EXPECT_TRUE(is_in(stretches, run) && is_in(stretches, span) && is_in(stretches, span + 9 * MiB));
  EXPECT_TRUE(is_in(stretches, find_tag(tag))) << "metadata";
  EXPECT_FALSE(is_in(stretches, &stretches));
  // Freed, they wait for their purge, as far as they are resident.
  tally_free(run);
  tally_free(span);
  now = look();
  EXPECT_EQ(now.untouched, before.untouched);
  EXPECT_EQ(now.dirty, before.dirty + round_up(100000, page));
  EXPECT_EQ(now.kept, before.kept + 3 * MiB);
  tally_trim();
  now = look();
  EXPECT_EQ(now.dirty + now.kept, 0U);
}

// A slab in slots that were something else's: what it has not come to is its tag's in no account.
TEST(Pages, WhatASlabHasNotComeToIsDirtyUntilItsPurge) {
  const tally_tag tag = make_tag("/pages/tail");
  fake_os::set_clock(1000000);
  close_no_more();
  const Pages before = look();
  const size_t bytes = kMediumSlots * kSlotBytes;
  void* run = tally_malloc(tag, bytes);
  memset(run, 1, bytes);
  tally_free(run);
  auto* block = static_cast<unsigned char*>(tally_malloc(tag, 20000));
  ASSERT_EQ(block, run);
  fill(block, 20000, 1);
  const size_t held = own(tag).footprint_bytes;
  EXPECT_LE(held, bytes / 4);
  EXPECT_EQ(look().dirty, before.dirty + bytes - held);
  fake_os::advance_clock(options.purge_ms / 2);
  purge_tick();
  EXPECT_EQ(look().dirty, before.dirty + bytes - held);
  fake_os::advance_clock(options.purge_ms);
  purge_tick();
  EXPECT_EQ(look().dirty, before.dirty);
  EXPECT_EQ(os::resident_in(run, bytes), held);
  EXPECT_TRUE(is_filled(block, 20000, 1));
  EXPECT_EQ(own(tag).footprint_bytes, held);
  // It is used as any other.
  std::vector<void*> blocks;
  for (int i = 0; i < 20; ++i) {
    blocks.push_back(tally_malloc(tag, 20000));
    fill(blocks.back(), 20000, 2);
  }
  EXPECT_TRUE(is_filled(block, 20000, 1));
  for (void* p : blocks) tally_free(p);
  tally_free(block);
}

// Of any thread's slabs, and where the system takes nothing back they wait for the next time.
TEST(Pages, TailsGoBackByATrim) {
  const tally_tag tag = make_tag("/pages/tail");
  close_no_more();
  const size_t bytes = kMediumSlots * kSlotBytes;
  void* run = tally_malloc(tag, bytes);
  memset(run, 1, bytes);
  tally_free(run);
  void* block = nullptr;
  on_thread([&] { block = tally_malloc(tag, 20000); });
  ASSERT_EQ(block, run);
  const size_t held = own(tag).footprint_bytes;
  {
    fake_os::Failing failing(fake_os::kPurge);
    tally_trim();
  }
  EXPECT_EQ(tail_count(), 1U);
  EXPECT_EQ(tally_trim(), 1);
  EXPECT_EQ(tail_count(), 0U);
  EXPECT_LE(os::resident_in(run, bytes), held);
  tally_free(block);
}

TEST(Pages, OfManyBlocksSomeAreLookedAt) {
  const tally_tag tag = make_tag("/pages");
  std::vector<void*> blocks;
  for (unsigned i = 0; i < 2000; ++i) {
    blocks.push_back(tally_malloc(tag, 128 * 1024));
    memset(blocks.back(), 1, i % 2 == 0 ? 128 * 1024 : 64 * 1024);
  }
  const double all = 2000 * 128 * 1024;
  EXPECT_NEAR(static_cast<double>(look().untouched), all / 4, all / 4);
  for (void* block : blocks) tally_free(block);
}

}  // namespace
}  // namespace tally::unit
