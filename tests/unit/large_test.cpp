#include "heap/large.h"

#include "base/math.h"
#include "fake_os.h"
#include "heap/free.h"
#include "heap/purge.h"
#include "memory/chunk.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

class LargeTest : public testing::Test {
 protected:
  LargeTest() {
    std::string path = "/unit/large/";
    path += testing::UnitTest::GetInstance()->current_test_info()->name();
    tag_ = find_tag(make_tag(path.c_str()));
  }
  void* allocate(size_t n, size_t alignment = 16) {
    return allocate_large(tag_, n, alignment, &zeroed_);
  }
  void expect_counts(uint64_t blocks, uint64_t bytes) const {
    EXPECT_EQ(tag_->large_live_blocks.load(), blocks);
    EXPECT_EQ(tag_->large_live_bytes.load(), bytes);
    EXPECT_EQ(tag_->own.now.load(), bytes);
    tally_counts counts = own(tag_->id);
    EXPECT_EQ(counts.live_bytes, bytes);
    EXPECT_EQ(counts.large_live_bytes, bytes);
    EXPECT_EQ(counts.footprint_bytes, bytes);
    EXPECT_EQ(counts.live_blocks, blocks);
  }

  Tag* tag_;
  bool zeroed_ = false;
};

TEST_F(LargeTest, RunsUpToAMebibyteThenSpans) {
  uint64_t bytes = 0, requested = 0;
  std::vector<void*> blocks;
  for (size_t n : {kMediumMax + 1, size_t{100000}, kRunMax - 1, kRunMax, kRunMax + 1, 5 * MiB}) {
    void* p = allocate(n);
    ASSERT_NE(p, nullptr);
    Slab* slab = find_block(p);
    ASSERT_NE(slab, nullptr);
    EXPECT_EQ(slab->what().kind, n <= kRunMax ? SlabKind::kRun : SlabKind::kSpan);
    EXPECT_EQ(slab->what().tag, tag_->id);
    EXPECT_EQ(slab->bytes.load(), round_up(n, os::page_size()));
    EXPECT_EQ(slab->owner.load(), nullptr);
    fill(p, n, 1);
    bytes += round_up(n, os::page_size());
    requested += n;
    blocks.push_back(p);
  }
  expect_counts(6, bytes);
  EXPECT_EQ(tag_->large_allocs.load(), 6U);
  EXPECT_EQ(tag_->large_requested.load(), requested);
  for (void* p : blocks) tally_free(p);
  expect_counts(0, 0);
  EXPECT_EQ(own(tag_->id).free_count, 6U);
  EXPECT_EQ(tag_->own.peak.load(), bytes);
}

TEST_F(LargeTest, TheFirstOfItsSizeIsClosedWhenFreed) {
  auto is_open = [](const void* p) {
    char byte;
    return os::read_memory(p, &byte, 1);
  };
  auto is_open_after = [&](size_t n) {
    void* p = allocate(n);
    fill(p, n, 1);
    free_large(find_block(p));
    EXPECT_EQ(find_block(p), nullptr);
    return is_open(p);
  };
  if (os::page_size() <= 16 * KiB) {
    EXPECT_TRUE(is_open_after(100000)) << "too small";
  }
  void* first = allocate(200000);
  fill(first, 200000, 1);
  free_large(find_block(first));
  EXPECT_FALSE(is_open(first));
  EXPECT_TRUE(is_open_after(200000)) << "not the first";
  EXPECT_TRUE(is_open_after(300000)) << "not twice as large";
  EXPECT_FALSE(is_open_after(500000));
  EXPECT_TRUE(is_open(first)) << "another one is closed now";
  EXPECT_FALSE(is_open_after(5 * MiB));
  EXPECT_TRUE(is_open_after(20 * MiB)) << "too large";
  purge_all();
  EXPECT_EQ(dirty_run_bytes(), 0U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(is_open_after(5 * MiB)) << "memory that was closed serves again";
  }
  expect_counts(0, 0);
}

TEST_F(LargeTest, AlignmentBeyondAChunk) {
  for (size_t alignment : {size_t{4096}, kSlotBytes, kRunMax, 2 * MiB, kChunkBytes, 64 * MiB}) {
    void* p = allocate(200000, alignment);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address(p) & (alignment - 1), 0U);
    tally_free(p);
  }
  EXPECT_EQ(allocate(1, SIZE_MAX / 2 + 1), nullptr);
  expect_counts(0, 0);
}

TEST_F(LargeTest, SaysTruthfullyWhetherItIsZeroed) {
  for (int round = 0; round < 4; ++round) {
    for (size_t n : {size_t{100000}, kRunMax, 3 * MiB}) {
      void* p = allocate(n);
      if (zeroed_) {
        EXPECT_TRUE(is_zero(p, n));
      }
      fill(p, n, 7);
      tally_free(p);
    }
    if (round == 1) {
      purge_all();
    }
  }
}

TEST_F(LargeTest, ARunChangesInPlaceWhileThereIsRoom) {
  void* p = allocate(100000);
  Slab* slab = find_block(p);
  fill(p, 100000, 5);
  EXPECT_EQ(resize_large(slab, 100001), p);
  EXPECT_EQ(resize_large(slab, 500000), p) << "the chunk is new: the slots behind are free";
  expect_counts(1, round_up(500000, os::page_size()));
  EXPECT_EQ(slab->slots, divide_up(500000, kSlotBytes));
  EXPECT_EQ(resize_large(slab, 70000), p);
  expect_counts(1, round_up(70000, os::page_size()));
  EXPECT_EQ(slab->slots, 2U);
  EXPECT_TRUE(is_filled(p, 70000, 5));
  EXPECT_EQ(resize_large(slab, kMediumMax), nullptr) << "a slab's block from here on";
  EXPECT_EQ(resize_large(slab, kRunMax + 1), nullptr) << "a span from here on";
  EXPECT_EQ(resize_large(slab, SIZE_MAX), nullptr);
  expect_counts(1, round_up(70000, os::page_size()));
  tally_free(p);
  expect_counts(0, 0);
}

TEST_F(LargeTest, ASpanMovesWithItsContent) {
  void* p = allocate(2 * MiB);
  fill(p, 2 * MiB, 5);
  Slab* slab = find_block(p);
  for (size_t n : {3 * MiB, 40 * MiB, 2 * MiB, 600 * KiB, 20 * MiB}) {
    p = resize_large(slab, n);
    ASSERT_NE(p, nullptr) << n;
    EXPECT_EQ(find_block(p), slab);
    EXPECT_TRUE(is_filled(p, min_of(n, 600 * KiB), 5));
    expect_counts(1, round_up(n, os::page_size()));
  }
  EXPECT_EQ(resize_large(slab, 512 * KiB), nullptr) << "too little for a mapping of its own";
  expect_counts(1, 20 * MiB);
  tally_free(p);
  expect_counts(0, 0);
  EXPECT_GE(tag_->own.peak.load(), 40 * MiB);
}

TEST_F(LargeTest, WithoutMemoryNothingChanges) {
  void* p = allocate(2 * MiB);
  fill(p, 2 * MiB, 5);
  {
    fake_os::Failing none(fake_os::kMap | fake_os::kRemap);
    EXPECT_EQ(allocate(100 * MiB), nullptr);
    EXPECT_EQ(resize_large(find_block(p), 50 * MiB), nullptr);
  }
  EXPECT_EQ(allocate(SIZE_MAX), nullptr);
  EXPECT_EQ(allocate(size_t{1} << 62), nullptr);
  EXPECT_EQ(tag_->own.peak.load(), 2 * MiB) << "what was refused is in no peak";
  EXPECT_EQ(tag_->account().peak(), 2 * MiB) << "nor is what a block could not grow by";
  EXPECT_TRUE(is_filled(p, 2 * MiB, 5));
  expect_counts(1, 2 * MiB);
  tally_free(p);
}

TEST_F(LargeTest, AFailureFirstGivesBackWhatIsKept) {
  tally_free(allocate(8 * MiB));  // kept
  void* p;
  {
    fake_os::Failing once(fake_os::kMap, 0, 1);
    p = tally_malloc(tag_->id, 20 * MiB);
  }
  ASSERT_NE(p, nullptr) << "the second try, after the purge";
  tally_free(p);
  expect_counts(0, 0);
}

// Who asks how much there may be at most, as some programs do, step by step, is told at once.
TEST_F(LargeTest, NothingIsGivenBackForWhatCanNeverBe) {
  tally_free(allocate(8 * MiB));  // kept
  fake_os::Failing count(fake_os::kPurge | fake_os::kUnmap, UINT64_MAX);
  for (unsigned bits = 47; bits < 63; ++bits) {
    EXPECT_EQ(tally_malloc(tag_->id, size_t{1} << bits), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(tally_aligned_alloc(tag_->id, 4096, size_t{1} << bits), nullptr);
  }
  EXPECT_EQ(fake_os::calls(), 0);
}

TEST_F(LargeTest, ShrinkingNeverFails) {
  void* small = tally_malloc(tag_->id, 4000);
  void* large = tally_malloc(tag_->id, 40 * MiB);
  // Nothing of the sizes asked for is at hand.
  fake_os::Failing none(fake_os::kMap | fake_os::kRemap);
  std::vector<void*> taken;
  for (size_t n : {1200U, 300000U}) {
    while (void* p = tally_malloc(tag_->id, n)) taken.push_back(p);
  }
  errno = 1234;
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, small, 1200), small);
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, large, 300000), large);
  EXPECT_EQ(errno, 1234);
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, small, 500000), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  for (void* p : taken) tally_free(p);
  tally_free(small);
  tally_free(large);
}

TEST_F(LargeTest, WhatItGrowsByIsAskedFor) {
  void* p = tally_malloc(tag_->id, 2 * MiB);
  p = tally_realloc(TALLY_TAG_NONE, p, 50 * MiB);
  EXPECT_EQ(own(tag_->id).requested_bytes, 50 * MiB);
  p = tally_realloc(TALLY_TAG_NONE, p, 10 * MiB);
  EXPECT_EQ(own(tag_->id).requested_bytes, 50 * MiB);
  tally_free(p);
}

// Realloc through the API, against a copy of the content.
TEST_F(LargeTest, ReallocAcrossAllKinds) {
  Random random(11);
  size_t n = 10;
  void* p = tally_malloc(tag_->id, n);
  fill(p, n, 77);
  for (int i = 0; i < 400; ++i) {
    size_t now = 1 + random.below(size_t{1} << (3 + random.below(20)));
    void* q = tally_realloc(TALLY_TAG_NONE, p, now);
    ASSERT_NE(q, nullptr);
    ASSERT_TRUE(is_filled(q, min_of(n, now), 77)) << n << " to " << now;
    ASSERT_EQ(tally_tag_of(q), tag_->id);
    ASSERT_GE(tally_usable_size(q), now);
    ASSERT_EQ(own(tag_->id).live_blocks, 1U);
    fill(q, now, 77);
    p = q;
    n = now;
  }
  tally_free(p);
  EXPECT_EQ(own(tag_->id).live_bytes, 0U);
}

}  // namespace
}  // namespace tally::unit
