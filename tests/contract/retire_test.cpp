// The end of tags: retire, revive, ids that are used again.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "tally_test.h"

namespace {

constexpr size_t kMiB = 1 << 20;

bool exists(tally_tag tag) {
  char name[4];
  return tally_tag_name(tag, name, sizeof name) != 0;
}

uint64_t metadata_bytes() {
  tally_snapshot_t* snapshot = tally_snapshot();
  const uint64_t bytes = snapshot->process.metadata_bytes;
  tally_snapshot_free(snapshot);
  return bytes;
}

TEST(Retire, NoNewBlockCarriesTheTag) {
  const tally_tag tag = tally_tag_create("/retired/one");
  void* p = tally_malloc(tag, 100);
  ASSERT_NE(p, nullptr);
  errno = 7777;
  EXPECT_EQ(tally_tag_retire(tag), 0);
  EXPECT_EQ(errno, 7777);
  errno = 0;
  EXPECT_EQ(tally_tag_push(tag), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tally_malloc(tag, 10), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tally_calloc(tag, 1, 10), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tally_aligned_alloc(tag, 16, 16), nullptr);
  EXPECT_EQ(errno, EINVAL);
  void* other = malloc(10);
  errno = 0;
  EXPECT_EQ(tally_realloc(tag, other, 20), nullptr) << "moving a block to it is no better";
  EXPECT_EQ(errno, EINVAL);
  free(other);
  free(p);
}

TEST(Retire, ItsBlocksStayValidCountedAndMayGrow) {
  const tally_tag tag = tally_tag_create("/retired/blocks");
  void* small = tally_malloc(tag, 100);
  void* large = tally_malloc(tag, 2 * kMiB);
  ASSERT_EQ(tally_tag_retire(tag), 0);
  EXPECT_EQ(stats_of(tag).retired, 1u);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 2u);
  EXPECT_EQ(tally_tag_of(small), tag);
  small = realloc(small, 5000);
  ASSERT_NE(small, nullptr);
  large = realloc(large, 4 * kMiB);
  ASSERT_NE(large, nullptr);
  EXPECT_EQ(tally_tag_of(small), tag);
  EXPECT_EQ(tally_tag_of(large), tag);
  EXPECT_EQ(stats_of(tag).own.live_bytes, counted_bytes(small) + counted_bytes(large));
  free(small);
  free(large);
}

TEST(Retire, OfTheRootTallysOwnOrNoneIsRefused) {
  for (tally_tag tag :
       {TALLY_TAG_ROOT, tally_tag_find("/tally"), TALLY_TAG_NONE, tally_tag{65000}}) {
    errno = 0;
    EXPECT_EQ(tally_tag_retire(tag), -1) << tag;
    EXPECT_EQ(errno, EINVAL) << tag;
  }
}

TEST(Retire, CreateRevives) {
  const tally_tag tag = tally_tag_create("/revived");
  void* p = tally_malloc(tag, 100);
  ASSERT_EQ(tally_tag_retire(tag), 0);
  EXPECT_EQ(tally_tag_create("/revived"), tag);
  EXPECT_EQ(stats_of(tag).retired, 0u);
  EXPECT_EQ(tally_tag_push(tag), 0);
  void* q = malloc(100);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_of(q), tag);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 2u);
  free(p);
  free(q);
}

TEST(Retire, AThreadThatHasItPushedMovesToTheParentAtItsNextPushOrPop) {
  const tally_tag parent = tally_tag_create("/pushed"), tag = tally_tag_create("/pushed/retired");
  const tally_tag other = tally_tag_create("/pushed/other");
  const tally_tag before = tally_tag_current();
  ASSERT_EQ(tally_tag_push(tag), 0);
  void* p = malloc(10);
  ASSERT_EQ(tally_tag_push(other), 0);
  ASSERT_EQ(tally_tag_retire(tag), 0);
  EXPECT_EQ(tally_tag_current(), other);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), parent);
  void* q = malloc(10);
  EXPECT_EQ(tally_tag_of(q), parent);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_tag_current(), before);
  free(p);
  free(q);
}

// Blocks of it are at hand, which no slow step has come upon since.
TEST(Retire, WhatAnotherThreadRetiredIsNotAllocatedUnderOnceThisOneLooked) {
  const tally_tag parent = tally_tag_create("/elsewhere");
  const tally_tag tag = tally_tag_create("/elsewhere/retired");
  ASSERT_EQ(tally_tag_push(tag), 0);
  std::vector<void*> blocks = {malloc(10)};
  const auto expect_now = [&](tally_tag expected) {
    EXPECT_EQ(tally_tag_current(), expected);
    blocks.push_back(malloc(10));
    EXPECT_EQ(tally_tag_of(blocks.back()), expected);
  };
  const auto retire = [&] { EXPECT_EQ(tally_tag_retire(tag), 0); };
  std::thread(retire).join();
  expect_now(parent);
  EXPECT_EQ(tally_tag_create("/elsewhere/retired"), tag);
  expect_now(tag);
  ASSERT_EQ(tally_tag_push(parent), 0);
  std::thread(retire).join();
  ASSERT_EQ(tally_tag_pop(), 0);
  blocks.push_back(malloc(10));
  EXPECT_EQ(tally_tag_of(blocks.back()), parent) << "after a pop";
  ASSERT_EQ(tally_tag_pop(), 0);
  for (void* p : blocks) free(p);
}

TEST(Retire, AParentHoldsOnWhileAChildIsThere) {
  const tally_tag child = tally_tag_create("/parent/child"), parent = tally_tag_find("/parent");
  ASSERT_EQ(tally_tag_retire(parent), 0);
  void* p = tally_malloc(child, 10);
  EXPECT_NE(p, nullptr) << "the child is not retired";
  EXPECT_EQ(stats_of(child).parent, parent);
  EXPECT_STREQ(stats_of(child).name, "/parent/child");
  free(p);
  ASSERT_EQ(tally_tag_retire(child), 0);
}

TEST(Retire, IdsOfEmptyTagsAreUsedAgain) {
  tally_tag highest = 0;
  for (int i = 0; i < 2000; i++) {
    const tally_tag tag = tally_tag_create(("/again/" + std::to_string(i)).c_str());
    ASSERT_NE(tag, TALLY_TAG_NONE) << i;
    EXPECT_EQ(stats_of(tag).own.alloc_count, 0u) << "a new tag begins at zero";
    void* p = tally_malloc(tag, 100);
    ASSERT_EQ(tally_tag_of(p), tag);
    free(p);
    ASSERT_EQ(tally_tag_retire(tag), 0);
    highest = std::max(highest, tag);
  }
  EXPECT_LT(highest, 1000u);
}

// A server that makes a tag for every request: no growth, whatever the order of free and retire.
TEST(Retire, AHundredThousandTagsInTurnDoNotGrow) {
  tally_tag highest = 0;
  uint64_t metadata = 0;
  size_t rss = 0;
  char path[64];
  for (int i = 0; i < 100000; i++) {
    snprintf(path, sizeof path, "/requests/%d", i);
    const tally_tag tag = tally_tag_create(path);
    ASSERT_NE(tag, TALLY_TAG_NONE) << i << " errno " << errno;
    highest = std::max(highest, tag);
    ASSERT_EQ(tally_tag_push(tag), 0);
    void* small = malloc(50);
    void* medium = malloc(3000);
    void* large = i % 100 == 0 ? malloc(kMiB) : nullptr;
    ASSERT_EQ(tally_tag_pop(), 0);
    ASSERT_EQ(tally_tag_of(small), tag);
    if (i % 2 == 0) {
      ASSERT_EQ(tally_tag_retire(tag), 0);
    }
    free(small);
    free(medium);
    free(large);
    if (i % 2 == 1) {
      ASSERT_EQ(tally_tag_retire(tag), 0);
    }
    if (i == 1000) {
      metadata = metadata_bytes();
      rss = rss_bytes();
    }
  }
  EXPECT_LT(highest, 2000u);
  EXPECT_LE(metadata_bytes(), metadata + kMiB);
  EXPECT_LE(rss_bytes(), rss + 8 * kMiB);
}

TEST(Retire, TagsOfManyThreadsAreUsedAgain) {
  tally_tag highest = 0;
  for (int round = 0; round < 300; round++) {
    const tally_tag tag = tally_tag_create(("/crowd/" + std::to_string(round)).c_str());
    ASSERT_NE(tag, TALLY_TAG_NONE);
    highest = std::max(highest, tag);
    std::vector<void*> left(4);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++) {
      threads.emplace_back([&, t] {
        tally_tag_push(tag);
        void* p = malloc(100);
        left[t] = malloc(200);
        free(p);
        tally_tag_pop();
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(stats_of(tag).own.live_blocks, 4u);
    for (void* p : left) free(p);
    ASSERT_EQ(tally_tag_retire(tag), 0);
  }
  EXPECT_LT(highest, 1000u);
}

// Last of this file: it leaves as many tags as there can be, for a moment.
TEST(TagLimit, SixtyFiveThousandTagsThenENOSPCThenAllOver) {
  std::vector<tally_tag> tags;
  tags.reserve(TALLY_TAG_MAX);
  tally_tag tag;
  while ((tag = tally_tag_create(("/limit/" + std::to_string(tags.size())).c_str())) !=
         TALLY_TAG_NONE) {
    tags.push_back(tag);
    ASSERT_LE(tags.size(), size_t{TALLY_TAG_MAX});
  }
  EXPECT_EQ(errno, ENOSPC);
  EXPECT_GT(tags.size(), 64000u);
  EXPECT_EQ(tally_tag_find("/limit/100"), tags[100]);
  std::vector<tally_tag> sorted = tags;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());

  tally_snapshot_t* snapshot = tally_snapshot();
  ASSERT_NE(snapshot, nullptr);
  EXPECT_EQ(snapshot->tag_count, uint64_t{TALLY_TAG_MAX});
  tally_snapshot_free(snapshot);

  void* p = tally_malloc(tags.back(), 100);
  EXPECT_EQ(tally_tag_of(p), tags.back());
  free(p);
  for (tally_tag each : tags) ASSERT_EQ(tally_tag_retire(each), 0);
  EXPECT_NE(tally_tag_create("/limit/over/again"), TALLY_TAG_NONE);
  EXPECT_FALSE(exists(TALLY_TAG_NONE));
}

}  // namespace
