// Arenas through the C interface: what is asked of them, what they hold, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tally_test.h"

namespace {

constexpr size_t KiB = 1024;

class Arena : public testing::Test {
 protected:
  Arena() {
    const std::string path = "/arena/";
    tag_ = tally_tag_create(
        (path + testing::UnitTest::GetInstance()->current_test_info()->name()).c_str());
    EXPECT_NE(tag_, TALLY_TAG_NONE);
  }
  ~Arena() override { tally_arena_destroy(arena_); }

  tally_arena* make(size_t first = 0, size_t most = 0, size_t keep = 0) {
    const tally_arena_options options = {sizeof options, first, most, keep};
    tally_arena_destroy(arena_);
    arena_ = tally_arena_create(tag_, &options);
    EXPECT_NE(arena_, nullptr);
    return arena_;
  }
  tally_arena_stats_t stats() const {
    tally_arena_stats_t stats = {};
    stats.size = sizeof stats;
    EXPECT_EQ(tally_arena_stats(arena_, &stats), 0);
    return stats;
  }
  char* alloc(size_t size, size_t alignment = 8) {
    return static_cast<char*>(tally_arena_alloc(arena_, size, alignment));
  }
  void expect_fails(size_t size, size_t alignment, int error) {
    const tally_arena_stats_t before = stats();
    errno = 0;
    EXPECT_EQ(tally_arena_alloc(arena_, opaque(size), opaque(alignment)), nullptr);
    EXPECT_EQ(errno, error) << size << " aligned to " << alignment;
    const tally_arena_stats_t after = stats();
    EXPECT_EQ(memcmp(&before, &after, sizeof before), 0) << "it is as before";
  }
  void expect_does_not_hold(tally_mark mark) {
    const tally_arena_stats_t before = stats();
    errno = 0;
    EXPECT_EQ(tally_arena_rewind(arena_, mark), -1);
    EXPECT_EQ(errno, EINVAL);
    const tally_arena_stats_t after = stats();
    EXPECT_EQ(memcmp(&before, &after, sizeof before), 0) << "it is as before";
  }

  tally_tag tag_;
  tally_arena* arena_ = nullptr;
};

// ---- Bad input

TEST_F(Arena, IsNotCreatedForWhatTakesNoBlocksOrWithWrongOptions) {
  const tally_tag retired = tally_tag_create("/arena/retired");
  void* block = tally_malloc(retired, 10);
  ASSERT_EQ(tally_tag_retire(retired), 0);
  for (tally_tag tag : {retired, tally_tag_find("/tally"), TALLY_TAG_NONE, tally_tag{65000}}) {
    errno = 0;
    EXPECT_EQ(tally_arena_create(tag, nullptr), nullptr) << tag;
    EXPECT_EQ(errno, EINVAL) << tag;
  }
  free(block);
  const uint32_t size = sizeof(tally_arena_options);
  const size_t too_much = PTRDIFF_MAX / 4 + 1;
  for (const tally_arena_options& wrong : {tally_arena_options{0, 0, 0, 0},
                                           {size - 1, 0, 0, 0},
                                           {size, 8192, 4096, 0},
                                           {size, 0, too_much, 0},
                                           {size, too_much, 0, 0},
                                           {size, SIZE_MAX, SIZE_MAX, 0}}) {
    errno = 0;
    EXPECT_EQ(tally_arena_create(tag_, &wrong), nullptr)
        << wrong.size << " " << wrong.first_bytes << " " << wrong.most_bytes;
    EXPECT_EQ(errno, EINVAL);
  }
  EXPECT_EQ(stats_of(tag_).own.alloc_count, 0u);
}

TEST_F(Arena, AnAlignmentThatIsNoPowerOfTwoIsRefused) {
  make();
  for (int round = 0; round < 2; round++) {  // without a segment, and with one
    for (size_t alignment : {size_t{0}, size_t{3}, size_t{24}, size_t{4095}, SIZE_MAX}) {
      expect_fails(100, alignment, EINVAL);
    }
    ASSERT_NE(alloc(100), nullptr);
  }
}

TEST_F(Arena, ASizeThatNothingCanHaveIsRefused) {
  make();
  for (int round = 0; round < 2; round++) {
    for (size_t size : {SIZE_MAX, SIZE_MAX - 6, SIZE_MAX - 7, size_t{PTRDIFF_MAX},
                        size_t{PTRDIFF_MAX} / 2, size_t{PTRDIFF_MAX} / 4}) {
      for (size_t alignment : {1, 8, 4096}) expect_fails(size, alignment, ENOMEM);
    }
    expect_fails(8, SIZE_MAX / 2 + 1, ENOMEM);
    expect_fails(8, PTRDIFF_MAX / 2 + 1, ENOMEM);
    expect_fails(SIZE_MAX - 10, SIZE_MAX / 2 + 1, ENOMEM);
    ASSERT_NE(alloc(100), nullptr);
  }
}

TEST_F(Arena, NothingIsNoArenaToDestroy) {
  errno = 7777;
  tally_arena_destroy(nullptr);
  EXPECT_EQ(errno, 7777);
}

TEST_F(Arena, StatisticsNeedRoomForTheirHead) {
  make();
  tally_arena_stats_t stats = {};
  errno = 0;
  EXPECT_EQ(tally_arena_stats(arena_, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  stats.size = 7;
  EXPECT_EQ(tally_arena_stats(arena_, &stats), -1);
  EXPECT_EQ(errno, EINVAL);
  stats.size = offsetof(tally_arena_stats_t, reserved_bytes);
  stats.reserved_bytes = 7777;
  EXPECT_EQ(tally_arena_stats(arena_, &stats), 0);
  EXPECT_EQ(stats.tag, tag_);
  EXPECT_EQ(stats.size, offsetof(tally_arena_stats_t, reserved_bytes));
  EXPECT_EQ(stats.reserved_bytes, 7777u) << "beyond its size";
}

// ---- Allocation

TEST_F(Arena, EveryAlignmentIsKept) {
  make();
  for (size_t alignment = 1; alignment <= 1024 * KiB; alignment *= 2) {
    for (size_t size : {size_t{1}, size_t{7}, size_t{100}, 3 * KiB, 100 * KiB}) {
      char* p = alloc(size, alignment);
      ASSERT_NE(p, nullptr) << size << " aligned to " << alignment;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % 8, 0u);
      memset(p, 1, size);
    }
  }
}

TEST_F(Arena, NoBytesHaveAPlaceOfTheirOwn) {
  make();
  char* first = alloc(0, 1);
  char* second = alloc(0, 1);
  char* third = alloc(1, 1);
  EXPECT_TRUE(first != nullptr && second != nullptr && first != second && second != third);
}

TEST_F(Arena, ErrnoIsKeptOnSuccess) {
  make(1024, 1024);
  errno = 7777;
  for (int i = 0; i < 100; i++) ASSERT_NE(alloc(200), nullptr);
  ASSERT_NE(alloc(100 * KiB), nullptr);
  const tally_mark mark = tally_arena_mark(arena_);
  ASSERT_EQ(tally_arena_rewind(arena_, mark), 0);
  tally_arena_reset(arena_);
  tally_arena_destroy(arena_);
  arena_ = nullptr;
  EXPECT_EQ(errno, 7777);
}

TEST_F(Arena, SegmentsDoubleUpToTheCap) {
  make(1000, 4 * KiB);
  const uint64_t descriptor = stats().reserved_bytes;
  EXPECT_EQ(stats().segment_count, 0u) << "nothing before it is needed";
  uint64_t held = descriptor, count = 0;
  for (size_t segment : {1 * KiB, 2 * KiB, 4 * KiB, 4 * KiB}) {
    ASSERT_NE(alloc(segment - 32), nullptr);  // all of it, but for the head
    held += segment;
    count++;
    EXPECT_EQ(stats().reserved_bytes, held);
    EXPECT_EQ(stats().segment_count, count);
  }
  EXPECT_EQ(stats().waste_bytes, 0u);
}

TEST_F(Arena, ALargeBlockHasASegmentForItselfAndLeavesTheOtherToTheSmall) {
  make();
  char* before = alloc(16);
  char* large = alloc(100 * KiB);
  char* after = alloc(16);
  EXPECT_EQ(after, before + 16);
  EXPECT_TRUE(large + 100 * KiB <= before || large > after);
  EXPECT_EQ(stats().segment_count, 2u);
  EXPECT_EQ(stats().used_bytes, 100 * KiB + 32);
}

// ---- Accounting and limits

TEST_F(Arena, AllThatItHoldsIsTheTags) {
  void* warm = tally_malloc(tag_, 100);
  tally_free(warm);
  const tally_counts before = stats_of(tag_).own;
  make();
  EXPECT_EQ(tally_tag_of(arena_), tag_);
  for (size_t i = 1; i < 3000; i++) {
    ASSERT_NE(alloc(i % 100 == 0 ? 70 * KiB : i % 500), nullptr);
    if (i % 1000 == 500) tally_arena_reset(arena_);
    if (i % 10 != 0) continue;
    const tally_counts own = stats_of(tag_).own;
    ASSERT_EQ(own.live_bytes, before.live_bytes + stats().reserved_bytes);
    ASSERT_EQ(own.live_blocks, before.live_blocks + 1 + stats().segment_count);
    ASSERT_GE(stats().peak_reserved_bytes, stats().reserved_bytes);
    ASSERT_GE(stats().reserved_bytes, stats().used_bytes + stats().waste_bytes);
  }
  const uint64_t taken = stats().segments_taken;
  tally_arena_destroy(arena_);
  arena_ = nullptr;
  const tally_counts after = stats_of(tag_).own;
  EXPECT_EQ(after.live_bytes, before.live_bytes);
  EXPECT_EQ(after.live_blocks, before.live_blocks);
  EXPECT_EQ(after.charged_bytes, before.charged_bytes);
  EXPECT_EQ(after.alloc_count, before.alloc_count + 1 + taken);
}

TEST_F(Arena, ALimitRefusesAndItGoesOnWithWhatItHas) {
  constexpr uint64_t kLimit = 1024 * KiB;
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, kLimit, TALLY_POLICY_FAIL), 0);
  make();
  std::vector<char*> blocks;
  errno = 0;
  while (char* p = alloc(1000)) {
    memset(p, static_cast<int>(blocks.size() % 251), 1000);
    blocks.push_back(p);
  }
  EXPECT_EQ(errno, ENOMEM);
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  EXPECT_GT(blocks.size() * 1000, kLimit * 7 / 8 - (page - 4096))
      << "towards the limit in smaller steps";
  EXPECT_LE(stats_of(tag_).total.peak_footprint_bytes, kLimit);
  EXPECT_GT(stats_of(tag_).refused_count, 0u);
  expect_fails(100 * KiB, 8, ENOMEM);
  for (size_t i = 0; i < blocks.size(); i++) {
    EXPECT_EQ(blocks[i][0], static_cast<char>(i % 251));
    EXPECT_EQ(blocks[i][999], static_cast<char>(i % 251));
  }
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL), 0);
  EXPECT_NE(alloc(100 * KiB), nullptr);
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, 0, TALLY_POLICY_FAIL), 0);
  tally_arena_reset(arena_);
  EXPECT_NE(alloc(1000), nullptr) << "what a reset keeps is there whatever the limit";
}

TEST_F(Arena, OfATagThatIsRetiredLaterGrowsNoMore) {
  make(1024, 1024);
  char* block = alloc(500);
  memset(block, 7, 500);
  ASSERT_EQ(tally_tag_retire(tag_), 0);
  EXPECT_NE(alloc(100), nullptr) << "there is room";
  expect_fails(600, 8, EINVAL);
  expect_fails(100 * KiB, 8, EINVAL);
  EXPECT_EQ(block[499], 7);
  EXPECT_EQ(stats().tag, tag_);
  const tally_mark mark = tally_arena_mark(arena_);
  EXPECT_EQ(tally_arena_rewind(arena_, mark), 0);
  tally_arena_reset(arena_);
  EXPECT_NE(alloc(900), nullptr) << "what was kept";
  tally_arena_destroy(arena_);
  arena_ = nullptr;
  EXPECT_EQ(stats_of(tag_).own.live_blocks, 0u);
}

// ---- Reset

TEST_F(Arena, ComesToCallTheHeapNoMore) {
  make();
  uint64_t taken = 0;
  for (int round = 0; round < 20; round++) {
    for (size_t i = 0; i < 400; i++) ASSERT_NE(alloc(i), nullptr);
    ASSERT_NE(alloc(70 * KiB), nullptr);
    tally_arena_reset(arena_);
    if (round < 2) taken = stats_of(tag_).own.alloc_count;
  }
  EXPECT_EQ(stats_of(tag_).own.alloc_count, taken);
  EXPECT_EQ(stats().segments_taken, taken - 1) << "and the descriptor";
  EXPECT_EQ(stats().used_bytes, 0u);
  EXPECT_GT(stats().peak_used_bytes, 140 * KiB);
  EXPECT_EQ(stats().segment_count, 1u);
}

TEST_F(Arena, AResetKeepsNoMoreThanItMay) {
  for (size_t keep : {size_t{1}, 10 * KiB, 64 * KiB, size_t{SIZE_MAX}}) {
    make(0, 0, keep);
    const uint64_t descriptor = stats().reserved_bytes;
    for (int round = 0; round < 3; round++) {
      for (size_t i = 0; i < 4000; i++) ASSERT_NE(alloc(200), nullptr);
      ASSERT_NE(alloc(300 * KiB), nullptr);
      tally_arena_reset(arena_);
      EXPECT_LE(stats().reserved_bytes - descriptor, keep);
      EXPECT_EQ(stats().waste_bytes, 0u);
    }
    if (keep == 1) {
      EXPECT_EQ(stats().segment_count, 0u);
    }
    if (keep == 64 * KiB) {
      EXPECT_EQ(stats().reserved_bytes - descriptor, keep);
    }
    const uint64_t taken = stats().segments_taken;
    for (size_t i = 0; i < 4000; i++) ASSERT_NE(alloc(200), nullptr);
    ASSERT_NE(alloc(300 * KiB), nullptr);
    EXPECT_EQ(stats().segments_taken == taken, keep == SIZE_MAX);
  }
}

// No step for each block: neither to allocate one nor to reset looks at its memory.
TEST_F(Arena, AResetLooksAtNoBlock) {
  make(64 * 1024 * KiB, 0, SIZE_MAX);
  ASSERT_NE(alloc(32), nullptr);
  const size_t before = rss_bytes();
  for (int i = 0; i < 1000000; i++) ASSERT_NE(alloc(32), nullptr);
  tally_arena_reset(arena_);
  EXPECT_LT(rss_bytes(), before + 1024 * KiB);
}

// ---- Marks

TEST_F(Arena, MarksNestAndMayBeRewoundToAgain) {
  make(1024, 4 * KiB);
  char* kept = alloc(100);
  memset(kept, 7, 100);
  const tally_mark outer = tally_arena_mark(arena_);
  const uint64_t at_outer = stats().used_bytes;
  char* block = alloc(100);
  memset(block, 8, 100);
  const tally_mark inner = tally_arena_mark(arena_);
  const uint64_t at_inner = stats().used_bytes;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 100; i++) ASSERT_NE(alloc(300), nullptr);
    ASSERT_NE(alloc(100 * KiB), nullptr);
    ASSERT_EQ(tally_arena_rewind(arena_, inner), 0);
    EXPECT_EQ(stats().used_bytes, at_inner);
    EXPECT_EQ(stats().waste_bytes, 0u);
    EXPECT_LE(stats().segment_count, 2u) << "the first, and one that is kept";
  }
  EXPECT_EQ(block[99], 8);
  ASSERT_EQ(tally_arena_rewind(arena_, outer), 0);
  EXPECT_EQ(stats().used_bytes, at_outer);
  EXPECT_EQ(alloc(100), block);
  EXPECT_EQ(kept[99], 7);
  ASSERT_EQ(tally_arena_rewind(arena_, outer), 0);
}

TEST_F(Arena, ALoopOfMarksAndRewindsNeitherGrowsNorCallsTheHeap) {
  make(1024, 4 * KiB);
  ASSERT_NE(alloc(600), nullptr);
  uint64_t used = 0, taken = 0;
  for (int i = 0; i < 1000; i++) {
    const tally_mark mark = tally_arena_mark(arena_);
    ASSERT_NE(mark, TALLY_MARK_NONE);
    ASSERT_NE(alloc(700), nullptr);
    ASSERT_NE(alloc(700), nullptr);
    ASSERT_EQ(tally_arena_rewind(arena_, mark), 0);
    if (i == 0) {
      used = stats().used_bytes;
      taken = stats().segments_taken;
    }
  }
  EXPECT_EQ(stats().used_bytes, used);
  EXPECT_EQ(stats().segments_taken, taken);
}

TEST_F(Arena, AMarkThatWasRewoundBehindDoesNotHold) {
  make();
  const tally_mark outer = tally_arena_mark(arena_);
  ASSERT_NE(alloc(100), nullptr);
  const tally_mark inner = tally_arena_mark(arena_);
  ASSERT_EQ(tally_arena_rewind(arena_, outer), 0);
  expect_does_not_hold(inner);
  ASSERT_NE(alloc(10 * KiB), nullptr);
  expect_does_not_hold(inner);  // though there is something at its place again
  const tally_mark later = tally_arena_mark(arena_);
  ASSERT_NE(alloc(100), nullptr);
  expect_does_not_hold(inner);
  EXPECT_EQ(tally_arena_rewind(arena_, later), 0);
  EXPECT_EQ(tally_arena_rewind(arena_, outer), 0);
}

TEST_F(Arena, AResetEndsAllMarks) {
  make();
  const tally_mark mark = tally_arena_mark(arena_);
  tally_arena_reset(arena_);
  expect_does_not_hold(mark);
  const tally_mark again = tally_arena_mark(arena_);
  EXPECT_NE(again, mark);
  expect_does_not_hold(mark);
  EXPECT_EQ(tally_arena_rewind(arena_, again), 0);
}

TEST_F(Arena, AMarkOfAnotherArenaOrNoneDoesNotHold) {
  make();
  tally_arena* other = tally_arena_create(tag_, nullptr);
  const tally_mark others = tally_arena_mark(other);
  expect_does_not_hold(others);  // without a mark, and with one
  const tally_mark own = tally_arena_mark(arena_);
  EXPECT_NE(others, own);
  expect_does_not_hold(others);
  expect_does_not_hold(TALLY_MARK_NONE);
  expect_does_not_hold(~tally_mark{0});
  tally_arena_destroy(other);
  make();  // where the first one was, perhaps
  expect_does_not_hold(own);
  expect_does_not_hold(others);
}

TEST_F(Arena, AMarkNeedsMemory) {
  make();
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, 0, TALLY_POLICY_FAIL), 0);
  errno = 0;
  EXPECT_EQ(tally_arena_mark(arena_), TALLY_MARK_NONE);
  EXPECT_EQ(errno, ENOMEM);
}

// ---- Threads

TEST_F(Arena, MayGoFromThreadToThread) {
  make();
  char* block = nullptr;
  tally_mark mark = TALLY_MARK_NONE;
  std::thread([&] {
    block = alloc(100);
    memset(block, 7, 100);
    mark = tally_arena_mark(arena_);
    for (int i = 0; i < 1000; i++) EXPECT_NE(alloc(1000), nullptr);
  }).join();
  EXPECT_EQ(tally_arena_rewind(arena_, mark), 0);
  EXPECT_EQ(block[99], 7);
  std::thread([&] {
    tally_arena_destroy(arena_);
    arena_ = nullptr;
  }).join();
  EXPECT_EQ(stats_of(tag_).own.live_blocks, 0u);
}

// Whatever it may keep, and however much of that is used each time.
TEST_F(Arena, WhoUsesAsMuchEachTimeNeedsTheHeapNoMore) {
  for (const size_t keep :
       {size_t{4096}, size_t{300} << 10, size_t{1000} << 10, size_t{10} << 20}) {
    size_t bound = 1;
    while (2 * bound <= keep) bound *= 2;
    for (const size_t percent : {10, 50, 88, 90, 99}) {
      make(0, 0, keep);
      uint64_t taken = 0;
      for (int cycle = 0; cycle < 12; cycle++) {
        if (cycle == 6) taken = stats().segments_taken;
        const size_t use = (bound - 64) * percent / 100;
        for (size_t used = 0; used + 40 <= use; used += 40) ASSERT_NE(alloc(40), nullptr);
        tally_arena_reset(arena_);
      }
      EXPECT_EQ(stats().segments_taken, taken) << keep << ", " << percent << " %";
    }
  }
}

}  // namespace
