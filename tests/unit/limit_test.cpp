#include "tag/limit.h"

#include <atomic>
#include <string>

#include "base/math.h"
#include "fake_os.h"
#include "limit.h"
#include "os/os.h"

namespace tally::unit {
namespace {

using namespace core;

// ---- The account.

TEST(Account, TakesUpToItsLimitAndNotAByteMore) {
  Account account;
  uint64_t held;
  account.set_limit(100, 0);
  EXPECT_TRUE(account.take(60, false, &held));
  EXPECT_EQ(held, 60U);
  EXPECT_FALSE(account.take(41, false, &held));
  EXPECT_EQ(account.held(), 60U);
  EXPECT_TRUE(account.take(40, false, &held));
  EXPECT_EQ(account.room(), 0U);
  EXPECT_EQ(account.give(100), 0U);
}

TEST(Account, TheReserveIsForWhoMayDrawOnIt) {
  Account account;
  uint64_t held;
  account.set_limit(100, 10);
  EXPECT_TRUE(account.take(90, false, &held));
  EXPECT_FALSE(account.take(1, false, &held));
  EXPECT_TRUE(account.take(10, true, &held));
  EXPECT_FALSE(account.take(1, true, &held));
}

TEST(Account, WithoutALimitThereIsStillAnEnd) {
  Account account;
  uint64_t held;
  EXPECT_TRUE(account.take(Account::kNoLimit, false, &held));
  EXPECT_FALSE(account.take(1, false, &held));
  EXPECT_FALSE(account.take(~uint64_t{0}, false, &held));
  EXPECT_EQ(account.held(), Account::kNoLimit);
}

// Once a lower limit is set, what is held never grows above it, whoever was about to take.
TEST(Account, AChangedLimitHoldsFromThenOn) {
  Account account;
  std::atomic<bool> stop{false};
  std::vector<std::thread> takers;
  for (int i = 0; i < 3; ++i) {
    takers.emplace_back([&] {
      uint64_t held;
      while (!stop.load()) {
        if (account.take(7, false, &held)) account.give(7);
      }
    });
  }
  for (int i = 0; i < 20000; ++i) {
    uint64_t limit = i % 2 == 0 ? 7 : 1000;
    account.set_limit(limit, 0);
    uint64_t bound = max_of(account.held(), limit);
    for (int look = 0; look < 3; ++look) {
      uint64_t held = account.held();
      ASSERT_LE(held, bound);
      bound = max_of(held, limit);
    }
  }
  stop.store(true);
  for (auto& taker : takers) taker.join();
  EXPECT_EQ(account.held(), 0U);
}

// ---- Tags.

TEST_F(LimitTest, SetAndGet) {
  uint64_t soft = 1, hard = 1;
  tally_policy policy = 1;
  ASSERT_EQ(tally_limit_get(tag_, &soft, &hard, &policy), 0);
  EXPECT_EQ(soft, TALLY_LIMIT_NONE);
  EXPECT_EQ(hard, TALLY_LIMIT_NONE);
  EXPECT_EQ(policy, TALLY_POLICY_FAIL);
  ASSERT_EQ(tally_limit_set(tag_, 1 << 20, 2 << 20, TALLY_POLICY_WAIT(250)), 0);
  ASSERT_EQ(tally_limit_get(tag_, &soft, &hard, &policy), 0);
  EXPECT_EQ(soft, 1U << 20);
  EXPECT_EQ(hard, 2U << 20);
  EXPECT_EQ(policy, TALLY_POLICY_WAIT(250));
  EXPECT_EQ(tally_limit_get(tag_, nullptr, nullptr, nullptr), 0);
  tally_stats_t of = stats(tag_);
  EXPECT_EQ(of.soft_limit_bytes, 1U << 20);
  EXPECT_EQ(of.hard_limit_bytes, 2U << 20);
}

TEST_F(LimitTest, WhatCannotBeSetChangesNothing) {
  ASSERT_EQ(tally_limit_set(tag_, 100, 200, TALLY_POLICY_ABORT), 0);
  struct {
    tally_tag tag;
    uint64_t soft, hard;
    tally_policy policy;
  } cases[] = {{tag_, 300, 200, TALLY_POLICY_FAIL},
               {tag_, 100, 200, 3},
               {tag_, 100, 200, TALLY_POLICY_WAIT(1) | 1},
               {tag_, 100, 200, TALLY_POLICY_ABORT | uint64_t{1} << 8},
               {tag_, 100, 200, uint64_t{1} << 60 | 2},
               {TALLY_TAG_NONE, 100, 200, TALLY_POLICY_FAIL},
               {kOwnTag, 100, 200, TALLY_POLICY_FAIL},
               {60000, 100, 200, TALLY_POLICY_FAIL}};
  for (const auto& one : cases) {
    errno = 0;
    EXPECT_EQ(tally_limit_set(one.tag, one.soft, one.hard, one.policy), -1);
    EXPECT_EQ(errno, EINVAL);
  }
  uint64_t soft, hard;
  tally_policy policy;
  ASSERT_EQ(tally_limit_get(tag_, &soft, &hard, &policy), 0);
  EXPECT_EQ(soft, 100U);
  EXPECT_EQ(hard, 200U);
  EXPECT_EQ(policy, TALLY_POLICY_ABORT);
  EXPECT_EQ(tally_limit_get(60000, &soft, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
}

// How much of a limit can be live: little is lost to the granularity of slabs.
TEST_F(LimitTest, MostOfALimitCanBeLive) {
  struct {
    uint64_t limit, share;
    size_t most;
  } cases[] = {
      {1 << 20, 75, 1024}, {1 << 20, 75, 4096}, {16 << 20, 90, 1024}, {16 << 20, 90, 16384}};
  for (auto& one : cases) {
    one.limit *= os::page_size() / 4096;  // each size that is in use has a page at least
    ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, one.limit, TALLY_POLICY_FAIL), 0);
    Random random(one.most);
    auto blocks = fill_up(tag_, [&] { return 1 + random.below(one.most); });
    tally_stats_t of = stats(tag_);
    EXPECT_GE(of.total.live_bytes * 100, one.limit * one.share) << one.limit << ", " << one.most;
    EXPECT_LE(of.total.footprint_bytes, one.limit);
    EXPECT_LE(of.total.peak_footprint_bytes, one.limit);
    // Again, after half of them went at random.
    for (size_t i = 0; i < blocks.size(); ++i)
      std::swap(blocks[i], blocks[random.below(blocks.size())]);
    std::vector<void*> half(blocks.begin() + static_cast<long>(blocks.size() / 2), blocks.end());
    blocks.resize(blocks.size() / 2);
    free_all(&half);
    half = fill_up(tag_, [&] { return 1 + random.below(one.most); });
    EXPECT_GE(stats(tag_).total.live_bytes * 100, one.limit * one.share)
        << one.limit << ", " << one.most;
    free_all(&half);
    free_all(&blocks);
    EXPECT_EQ(stats(tag_).total.live_bytes, 0U);
  }
}

TEST_F(LimitTest, AChargeCountsForAllAboveOrForNone) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_FAIL);
  tally_limit_set(below_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_FAIL);
  auto blocks = fill_up(below_, [] { return 100; });
  tally_stats_t top = stats(tag_), leaf = stats(below_);
  EXPECT_EQ(top.own.footprint_bytes, 0U);
  EXPECT_EQ(top.total.footprint_bytes, leaf.total.footprint_bytes);
  EXPECT_LE(leaf.total.peak_footprint_bytes, 1U << 20) << "what was refused above is in no peak";
  EXPECT_EQ(top.refused_count, 1U);
  EXPECT_EQ(leaf.refused_count, 0U);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_HARD);
  EXPECT_EQ(tally_pressure(below_), TALLY_PRESSURE_HARD) << "what is above limits it too";
  EXPECT_EQ(leaf.pressure, static_cast<uint32_t>(TALLY_PRESSURE_NORMAL));
  void* other = tally_malloc(tag_, 300000);
  EXPECT_EQ(other, nullptr);
  free_all(&blocks);
  other = tally_malloc(tag_, 300000);
  EXPECT_NE(other, nullptr);
  tally_free(other);
}

TEST_F(LimitTest, ALowerLimitTakesNothingAwayAndGivesNoMore) {
  std::vector<void*> blocks;
  for (int i = 0; i < 8; ++i) blocks.push_back(tally_malloc(tag_, 256 << 10));
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_FAIL), 0);
  EXPECT_EQ(held(), 2U << 20);
  EXPECT_EQ(tally_malloc(tag_, 100), nullptr);
  for (int i = 0; i < 4; ++i) tally_free(blocks[static_cast<size_t>(i)]);
  EXPECT_EQ(tally_malloc(tag_, 300000), nullptr) << "exactly at the limit";
  tally_free(blocks[4]);
  void* p = tally_malloc(tag_, 100);
  EXPECT_NE(p, nullptr);
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL), 0);
  void* large = tally_malloc(tag_, 8 << 20);
  EXPECT_NE(large, nullptr);
  tally_free(large);
  tally_free(p);
  for (size_t i = 5; i < 8; ++i) tally_free(blocks[i]);
}

TEST_F(LimitTest, ALimitOfZeroIsNoAllocationOfAnySort) {
  void* before = tally_malloc(tag_, 100000);
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, 0, TALLY_POLICY_FAIL), 0);
  for (size_t size : {1, 100, 5000, 40000, 300000, 5000000}) {
    errno = 0;
    EXPECT_EQ(tally_malloc(tag_, size), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(tally_calloc(tag_, 1, size), nullptr);
    EXPECT_EQ(tally_aligned_alloc(tag_, 256, size), nullptr);
    EXPECT_EQ(tally_realloc(tag_, nullptr, size), nullptr);
    EXPECT_EQ(tally_malloc(below_, size), nullptr);
  }
  EXPECT_EQ(tally_charge(tag_, 1), -1);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, before, 400000), nullptr) << "nothing to grow into";
  fill(before, 100000, 3);
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, before, 70000), before) << "what shrinks may";
  EXPECT_TRUE(is_filled(before, 70000, 3));
  tally_free(before);
  EXPECT_EQ(held(), 0U);
}

TEST_F(LimitTest, GrowthInPlaceIsLimitedToo) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 << 20, TALLY_POLICY_FAIL);
  void* p = tally_malloc(tag_, 3 << 20);
  fill(p, 3 << 20, 7);
  void* grown = tally_realloc(TALLY_TAG_NONE, p, 6 << 20);
  ASSERT_NE(grown, nullptr);
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, grown, 9 << 20), nullptr);
  EXPECT_TRUE(is_filled(grown, 3 << 20, 7));
  EXPECT_EQ(held(), 6U << 20);
  tally_free(grown);
}

// Failing is clean, and so often that what leaks shows.
TEST_F(LimitTest, FailuresLeaveNothingBehind) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_FAIL);
  auto blocks = fill_up(tag_, [] { return 200; });
  std::vector<void*> late;  // the reserve, and what other sizes find
  uint64_t metadata = stats(kOwnTag).total.footprint_bytes;
  for (int i = 0; i < 200000; ++i) {
    void* p = tally_malloc(tag_, 100 + static_cast<size_t>(i) % 3 * 100000);
    if (p != nullptr) late.push_back(p);
    ASSERT_LE(held(), 1U << 20);
  }
  EXPECT_LT(late.size(), 2000U);
  EXPECT_EQ(stats(kOwnTag).total.footprint_bytes, metadata);
  EXPECT_EQ(stats(tag_).total.live_blocks, blocks.size() + late.size());
  EXPECT_GE(stats(tag_).refused_count, 190000U);
  free_all(&late);
  free_all(&blocks);
  EXPECT_EQ(stats(tag_).total.live_bytes, 0U);
}

TEST_F(LimitTest, TheReserveIsForSmallBlocksAfterAFailure) {
  constexpr uint64_t kLimit = 4 << 20;
  tally_limit_set(tag_, TALLY_LIMIT_NONE, kLimit, TALLY_POLICY_FAIL);
  std::vector<void*> blocks;
  while (true) {
    if (void* p = tally_malloc(tag_, 100 << 10)) {
      blocks.push_back(p);
    } else {
      break;
    }
  }
  uint64_t at_failure = held();
  EXPECT_LE(at_failure, kLimit - options.reserve);
  std::vector<void*> small;
  while (void* p = tally_malloc(tag_, 64)) small.push_back(p);
  EXPECT_GE(small.size() * 64, options.reserve / 2) << "who handles the failure may go on";
  EXPECT_LE(held(), kLimit);
  free_all(&small);
  free_all(&blocks);
}

// What one thread keeps, or freed for another, does not fail a third.
TEST_F(LimitTest, EmptySlabsOfOtherThreadsAreCollected) {
  fake_os::set_clock(os::now_ms());  // by time nothing goes back, however busy the machine
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 << 20, TALLY_POLICY_FAIL);
  std::atomic<int> step{0};
  std::thread other([&] {
    std::vector<void*> blocks;
    for (int i = 0; i < 60000; ++i) blocks.push_back(tally_malloc(tag_, 100));
    free_all(&blocks);
    step.store(1);
    while (step.load() == 1) os::sleep_ms(1);
  });
  while (step.load() == 0) os::sleep_ms(1);
  EXPECT_GT(held(), 4U << 20) << "kept, for it is often needed again";
  void* p = tally_malloc(tag_, 7 << 20);
  EXPECT_NE(p, nullptr);
  tally_free(p);
  step.store(2);
  other.join();
}

TEST_F(LimitTest, BlocksThatOthersFreedAreCollected) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 << 20, TALLY_POLICY_FAIL);
  auto blocks = fill_up(tag_, [] { return 1000; });
  on_thread([&] { free_all(&blocks); });
  void* p = tally_malloc(tag_, 7 << 20);
  EXPECT_NE(p, nullptr);
  tally_free(p);
}

// Of blocks freed here and there no slab is empty, but pages are.
TEST_F(LimitTest, FreePagesOfSparseSlabsAreCollected) {
  if (os::page_size() > 4096) GTEST_SKIP() << "of so large pages none is free";
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 << 20, TALLY_POLICY_FAIL);
  auto blocks = fill_up(tag_, [] { return 1000; });
  std::vector<void*> left;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (i % 40 == 0) {
      left.push_back(blocks[i]);
    } else {
      tally_free(blocks[i]);
    }
  }
  void* p = tally_malloc(tag_, 6 << 20);
  EXPECT_NE(p, nullptr);
  tally_free(p);
  free_all(&left);
}

TEST_F(LimitTest, ARetiredTagsIdComesBackWithoutLimits) {
  tally_limit_set(below_, 10, 20, TALLY_POLICY_ABORT);
  tally_on_pressure(
      below_, [](tally_tag, int, void*) { ADD_FAILURE(); }, nullptr, nullptr);
  ASSERT_EQ(tally_tag_retire(below_), 0);
  for (int i = 0; i < 40; ++i) {
    tally_tag tag = make_tag((path_ + "/other" + std::to_string(i)).c_str());
    uint64_t soft, hard;
    ASSERT_EQ(tally_limit_get(tag, &soft, &hard, nullptr), 0);
    ASSERT_EQ(hard, TALLY_LIMIT_NONE);
    ASSERT_EQ(soft, TALLY_LIMIT_NONE);
    void* p = tally_malloc(tag, 100000);
    ASSERT_NE(p, nullptr);
    tally_free(p);
  }
}

// ---- Charges from outside.

TEST_F(LimitTest, ChargesCountAndAreLimited) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_FAIL);
  EXPECT_EQ(tally_charge(below_, 700000), 0);
  tally_stats_t of = stats(tag_);
  EXPECT_EQ(of.total.footprint_bytes, 700000U);
  EXPECT_EQ(of.total.charged_bytes, 700000U);
  EXPECT_EQ(of.total.live_bytes, 700000U);
  EXPECT_EQ(of.total.live_blocks, 0U);
  EXPECT_EQ(of.own.charged_bytes, 0U);
  EXPECT_EQ(tally_charge(tag_, 500000), -1);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(tally_malloc(tag_, 500000), nullptr);
  EXPECT_EQ(tally_uncharge(below_, 700001), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(tally_uncharge(tag_, 1), -1) << "each tag has its own";
  EXPECT_EQ(stats(tag_).total.charged_bytes, 700000U);
  EXPECT_EQ(tally_uncharge(below_, 700000), 0);
  EXPECT_EQ(held(), 0U);
  EXPECT_EQ(tally_charge(tag_, SIZE_MAX), -1);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(tally_charge(60000, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(tally_uncharge(60000, 1), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(tally_charge(tag_, 0), 0);
}

TEST_F(LimitTest, ATagWithChargesIsNotGivenOutAgain) {
  ASSERT_EQ(tally_charge(below_, 10), 0);
  ASSERT_EQ(tally_tag_retire(below_), 0);
  for (int i = 0; i < 40; ++i) {
    EXPECT_NE(make_tag((path_ + "/other" + std::to_string(i)).c_str()), below_);
  }
  EXPECT_EQ(tally_uncharge(below_, 10), 0);
}

// ---- Threads.

TEST_F(LimitTest, NoTagEverHoldsMoreThanItsLimit) {
  constexpr uint64_t kLimit = 2 << 20;
  tally_limit_set(tag_, kLimit / 2, kLimit, TALLY_POLICY_FAIL);
  tally_limit_set(below_, TALLY_LIMIT_NONE, kLimit / 2, TALLY_POLICY_FAIL);
  Heard heard;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Random random(i);
      std::vector<void*> blocks;
      for (int step = 0; step < 20000; ++step) {
        if (!blocks.empty() && random.below(3) == 0) {
          std::swap(blocks[random.below(blocks.size())], blocks.back());
          tally_free(blocks.back());
          blocks.pop_back();
        } else if (void* p =
                       tally_malloc(random.below(2) == 0 ? tag_ : below_, 1 + random.below(3000))) {
          blocks.push_back(p);
        } else if (random.below(10) == 0) {
          free_all(&blocks);
        }
      }
      free_all(&blocks);
    });
  }
  std::thread looker([&] {
    const Tag* tag = find_tag(tag_);
    const Tag* below = find_tag(below_);
    while (!stop.load()) {
      ASSERT_LE(tag->account().held(), kLimit);
      ASSERT_LE(below->account().held(), kLimit / 2);
    }
  });
  for (auto& thread : threads) thread.join();
  stop.store(true);
  looker.join();
  EXPECT_EQ(stats(tag_).total.live_bytes, 0U);
  EXPECT_GT(stats(tag_).refused_count, 0U);
  tally_trim();
  EXPECT_EQ(find_tag(tag_)->account().held(),
            stats(tag_).own.footprint_bytes + stats(below_).own.footprint_bytes);
}

}  // namespace
}  // namespace tally::unit
