#include "tag/limit.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "base/math.h"
#include "fake_os.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

void free_all(std::vector<void*>* blocks) {
  for (void* p : *blocks) tally_free(p);
  blocks->clear();
}

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

class LimitTest : public testing::Test {
 protected:
  LimitTest()
      : path_(std::string("/") + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    tag_ = make_tag(path_.c_str());
    below_ = make_tag((path_ + "/below").c_str());
  }
  ~LimitTest() override {
    tally_limit_set(tag_, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  }

  // Allocates what f says until one is refused.
  template <class Size>
  std::vector<void*> fill_up(tally_tag tag, Size size) {
    std::vector<void*> blocks;
    blocks.reserve(1 << 20);
    while (void* p = tally_malloc(tag, size())) blocks.push_back(p);
    EXPECT_EQ(errno, ENOMEM);
    return blocks;
  }
  uint64_t held() const { return stats(tag_).total.footprint_bytes; }

  std::string path_;
  tally_tag tag_, below_;
};

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

// ---- Pressure.

struct Heard {
  std::vector<int> levels;
  std::vector<std::thread::id> threads;
  void note(int level) {
    levels.push_back(level);
    threads.push_back(std::this_thread::get_id());
  }
};
void hear(tally_tag /*tag*/, int level, void* heard) { static_cast<Heard*>(heard)->note(level); }

tally_pressure_options without_interval(uint32_t levels = 0) {
  return {sizeof(tally_pressure_options), levels, 1};
}

TEST_F(LimitTest, LevelsAreToldOnceUpwardsAndOnceDownwards) {
  Heard heard;
  tally_limit_set(tag_, 1 << 20, 2 << 20, TALLY_POLICY_FAIL);
  ASSERT_EQ(tally_on_pressure(tag_, hear, &heard, nullptr), 0);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_NORMAL);
  tally_charge(tag_, (1 << 20));
  EXPECT_TRUE(heard.levels.empty()) << "at the limit is not above it";
  tally_charge(tag_, 1);
  EXPECT_EQ(heard.levels, std::vector<int>({TALLY_PRESSURE_SOFT}));
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_SOFT);
  EXPECT_EQ(tally_pressure(below_), TALLY_PRESSURE_SOFT);
  tally_charge(below_, 1000);
  tally_uncharge(below_, 1000);
  tally_uncharge(tag_, 10000);
  tally_charge(tag_, 10000);
  EXPECT_EQ(heard.levels.size(), 1U) << "a little up and down tells nobody";
  EXPECT_EQ(tally_charge(tag_, 2 << 20), -1);
  EXPECT_EQ(heard.levels.size(), 1U) << "no callback can make that fit";
  EXPECT_EQ(tally_charge(tag_, 3 << 19), -1);
  EXPECT_EQ(heard.levels, std::vector<int>({1, 2, 1})) << "much of it is free: that was too much";
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_SOFT);
  tally_uncharge(tag_, 1 << 19);
  EXPECT_EQ(heard.levels.back(), TALLY_PRESSURE_NORMAL);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_NORMAL);
  EXPECT_EQ(stats(tag_).pressure_count, 1U);
  tally_uncharge(tag_, (1 << 19) + 1);
  ASSERT_EQ(tally_off_pressure(tag_, hear, &heard), 0);
  tally_charge(tag_, (1 << 20) + 1);
  size_t calls = heard.levels.size();
  tally_uncharge(tag_, (1 << 20) + 1);
  EXPECT_EQ(heard.levels.size(), calls);
  EXPECT_EQ(tally_off_pressure(tag_, hear, &heard), -1);
  EXPECT_EQ(errno, ENOENT);
}

TEST_F(LimitTest, AllocationsAndFreesTellToo) {
  Heard heard;
  tally_limit_set(tag_, 1 << 20, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_on_pressure(tag_, hear, &heard, nullptr);
  for (size_t size : {100U, 5000U, 60000U, 200000U, 3000000U}) {
    heard = {};
    std::vector<void*> blocks;
    for (size_t bytes = 0; bytes <= 2 << 20; bytes += size) {
      errno = 77;
      blocks.push_back(tally_malloc(below_, size));
      EXPECT_EQ(errno, 77);
    }
    EXPECT_EQ(heard.levels, std::vector<int>({TALLY_PRESSURE_SOFT})) << size;
    free_all(&blocks);
    EXPECT_EQ(errno, 77);
    tally_trim();
    EXPECT_EQ(heard.levels.back(), TALLY_PRESSURE_NORMAL) << size;
    EXPECT_EQ(heard.threads.front(), std::this_thread::get_id());
    os::sleep_ms(20);  // the interval
  }
}

TEST_F(LimitTest, TheThreadThatCrossesTells) {
  Heard heard;
  tally_limit_set(tag_, 1 << 20, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_on_pressure(tag_, hear, &heard, nullptr);
  std::thread::id id;
  on_thread([&] {
    id = std::this_thread::get_id();
    tally_charge(tag_, 2 << 20);
  });
  EXPECT_EQ(heard.threads, std::vector<std::thread::id>({id}));
  tally_uncharge(tag_, 2 << 20);
  EXPECT_EQ(heard.threads.back(), std::this_thread::get_id());
  tally_off_pressure(tag_, hear, &heard);
}

std::string g_order;

TEST_F(LimitTest, InTheOrderOfRegistrationAndOfTheLevelsAskedFor) {
  tally_limit_set(tag_, 1000, 2000, TALLY_POLICY_FAIL);
  auto soft = without_interval(1U << TALLY_PRESSURE_SOFT),
       hard = without_interval(1U << TALLY_PRESSURE_HARD);
  tally_on_pressure(
      tag_, [](tally_tag, int level, void*) { g_order += "a" + std::to_string(level); }, nullptr,
      nullptr);
  tally_on_pressure(
      tag_, [](tally_tag, int level, void*) { g_order += "b" + std::to_string(level); }, nullptr,
      &hard);
  tally_on_pressure(
      tag_, [](tally_tag, int level, void*) { g_order += "c" + std::to_string(level); }, nullptr,
      &soft);
  g_order = "";
  tally_charge(tag_, 1500);
  EXPECT_EQ(g_order, "a1c1");
  g_order = "";
  tally_charge(tag_, 370);
  EXPECT_EQ(tally_charge(tag_, 1000), -1);
  EXPECT_EQ(g_order, "a2b2");
  g_order = "";
  tally_uncharge(tag_, 1870);
  EXPECT_EQ(g_order, "a0");
}

TEST_F(LimitTest, BadOptionsOfCallbacks) {
  Heard heard;
  tally_pressure_options small = {4, 0, 0}, levels = {sizeof levels, 1U << 3, 0};
  for (int result : {tally_on_pressure(tag_, nullptr, nullptr, nullptr),
                     tally_on_pressure(60000, hear, &heard, nullptr),
                     tally_on_pressure(tag_, hear, &heard, &small),
                     tally_on_pressure(tag_, hear, &heard, &levels),
                     tally_on_pressure(kOwnTag, hear, &heard, nullptr)}) {
    EXPECT_EQ(result, -1);
    EXPECT_EQ(errno, EINVAL);
  }
}

TEST_F(LimitTest, ARiseWithinTheIntervalIsToldAfterIt) {
  Heard heard;
  tally_limit_set(tag_, 1000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_pressure_options slow = {sizeof slow, 0, 60};
  tally_on_pressure(tag_, hear, &heard, &slow);
  tally_charge(tag_, 2000);
  tally_uncharge(tag_, 2000);
  EXPECT_EQ(heard.levels, std::vector<int>({1, 0}));
  tally_charge(tag_, 2000);
  tally_charge(tag_, 10);
  EXPECT_EQ(heard.levels.size(), 2U);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_SOFT) << "the level itself does not wait";
  os::sleep_ms(100);
  tally_charge(tag_, 10);
  EXPECT_EQ(heard.levels, std::vector<int>({1, 0, 1}));
  tally_uncharge(tag_, 2020);
}

TEST_F(LimitTest, TimeUnderPressureIsCounted) {
  tally_limit_set(tag_, 1000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_charge(tag_, 2000);
  os::sleep_ms(50);
  EXPECT_GE(stats(tag_).pressure_ms, 30U);
  tally_uncharge(tag_, 2000);
  uint64_t then = stats(tag_).pressure_ms;
  os::sleep_ms(30);
  EXPECT_EQ(stats(tag_).pressure_ms, then);
}

// ---- What a callback may do.

struct Evictor {
  std::vector<void*> blocks;
  tally_tag tag;
  int calls = 0, depth = 0;
  bool was_nested = false;
};

void evict(tally_tag tag, int level, void* arg) {
  auto& evictor = *static_cast<Evictor*>(arg);
  ++evictor.calls;
  if (evictor.depth++ != 0) evictor.was_nested = true;
  EXPECT_EQ(tag, evictor.tag);
  void* p = malloc(1000);
  free(p);
  for (int i = 0; i < 150 && level == TALLY_PRESSURE_HARD && !evictor.blocks.empty(); ++i) {
    tally_free(evictor.blocks.back());
    evictor.blocks.pop_back();
  }
  --evictor.depth;
}

TEST_F(LimitTest, ACallbackThatFreesLetsTheAllocationSucceed) {
  if (os::page_size() > 4096) GTEST_SKIP() << "what it frees at a time are few pages";
  Evictor evictor;
  evictor.tag = tag_;
  evictor.blocks.reserve(100000);
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_FAIL);
  tally_on_pressure(tag_, evict, &evictor, nullptr);
  for (size_t size : {50000U, 3000U, 300000U, 600U}) {
    for (int i = 0; i < 2000; ++i) {
      void* p = tally_malloc(tag_, size);
      ASSERT_NE(p, nullptr) << size << " " << i;
      evictor.blocks.push_back(p);
    }
  }
  EXPECT_GT(evictor.calls, 100);
  EXPECT_FALSE(evictor.was_nested);
  EXPECT_LE(stats(tag_).total.peak_footprint_bytes, 4U << 20);
  tally_off_pressure(tag_, evict, &evictor);
  free_all(&evictor.blocks);
}

struct Busy {
  tally_tag tag, other;
  int calls = 0;
  Heard nested;
};

void do_everything(tally_tag tag, int level, void* arg) {
  auto& busy = *static_cast<Busy*>(arg);
  ++busy.calls;
  EXPECT_EQ(tally_tag_push(busy.other), 0);
  void* p = tally_malloc(busy.other, 100000);
  EXPECT_NE(p, nullptr);
  tally_free(p);
  EXPECT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(tally_charge(busy.other, 5000), 0) << "another callback's tag is now above its limit";
  EXPECT_TRUE(busy.nested.levels.empty()) << "but it is not told within this one";
  uint64_t soft, hard;
  tally_policy policy;
  EXPECT_EQ(tally_limit_get(tag, &soft, &hard, &policy), 0);
  EXPECT_EQ(tally_limit_set(tag, soft + 1, hard, policy), 0);
  void* fails = tally_malloc(tag, 1 << 30);
  EXPECT_EQ(fails, nullptr);
  pid_t child = fork();
  if (child == 0) _exit(tally_malloc(busy.other, 1000) == nullptr ? 1 : level);
  int status;
  waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), level);
  EXPECT_EQ(tally_off_pressure(tag, do_everything, arg), 0) << "its own end";
}

TEST_F(LimitTest, ACallbackMayDoEverything) {
  Busy busy = {tag_, make_tag((path_ + "_other").c_str()), 0, {}};
  tally_limit_set(busy.other, 4000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_limit_set(tag_, 1000, 1 << 20, TALLY_POLICY_WAIT(100000));
  tally_on_pressure(busy.other, hear, &busy.nested, nullptr);
  tally_on_pressure(tag_, do_everything, &busy, nullptr);
  tally_charge(tag_, 2000);
  EXPECT_EQ(busy.calls, 1);
  EXPECT_EQ(busy.nested.levels.front(), TALLY_PRESSURE_SOFT) << "told when that had returned";
  tally_uncharge(tag_, 2000);
  EXPECT_EQ(busy.calls, 1);
  tally_uncharge(busy.other, 5000);
  tally_off_pressure(busy.other, hear, &busy.nested);
}

std::atomic<int> g_in_callback{0};

// Whoever ends a registration may throw its argument away.
TEST_F(LimitTest, OffWaitsForACallThatRuns) {
  auto slow = [](tally_tag, int, void*) {
    g_in_callback.store(1);
    os::sleep_ms(50);
    g_in_callback.store(2);
  };
  tally_limit_set(tag_, 1000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_on_pressure(tag_, slow, nullptr, nullptr);
  std::thread other([&] { tally_charge(tag_, 2000); });
  while (g_in_callback.load() == 0) os::sleep_ms(1);
  EXPECT_EQ(tally_off_pressure(tag_, slow, nullptr), 0);
  EXPECT_EQ(g_in_callback.load(), 2);
  other.join();
}

TEST_F(LimitTest, AForkWhileAnotherThreadIsInACallback) {
  static std::atomic<int> state;
  auto slow = [](tally_tag, int, void*) {
    state.store(1);
    while (state.load() == 1) os::sleep_ms(1);
  };
  tally_limit_set(tag_, 1000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_on_pressure(tag_, slow, nullptr, nullptr);
  std::thread other([&] { tally_charge(tag_, 2000); });
  while (state.load() == 0) os::sleep_ms(1);
  pid_t child = fork();
  if (child == 0) {
    state.store(2);
    bool ok = tally_off_pressure(tag_, slow, nullptr) == 0;
    Heard heard;
    ok = ok && tally_on_pressure(tag_, hear, &heard, nullptr) == 0;
    tally_uncharge(tag_, 2000);
    tally_charge(tag_, 2000);
    _exit(ok && heard.levels.size() >= 1 && tally_malloc(tag_, 100) != nullptr ? 0 : 1);
  }
  int status;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  state.store(2);
  other.join();
  tally_off_pressure(tag_, slow, nullptr);
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_F(LimitTest, AnExceptionThatLeavesACallbackEndsTheProgram) {
  tally_limit_set(tag_, 1000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_on_pressure(
      tag_, [](tally_tag, int, void*) { throw 42; }, nullptr, nullptr);
  EXPECT_EXIT(
      {
        try {
          tally_charge(tag_, 2000);
        } catch (int) {
        }
      },
      testing::KilledBySignal(SIGABRT), "terminate called after throwing");
}
#endif

// ---- Policies.

using Clock = std::chrono::steady_clock;
long ms_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
}

TEST_F(LimitTest, WaitLastsUntilAnotherThreadFrees) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_WAIT(20000));
  void* held_by_other = tally_malloc(tag_, 3 << 20);
  std::thread other([&] {
    os::sleep_ms(60);
    tally_free(held_by_other);
  });
  auto start = Clock::now();
  void* p = tally_malloc(tag_, 2 << 20);
  long waited = ms_since(start);
  EXPECT_NE(p, nullptr);
  EXPECT_GE(waited, 40);
  EXPECT_LT(waited, 10000);
  EXPECT_EQ(stats(tag_).waited_count, 1U);
  EXPECT_EQ(stats(tag_).refused_count, 0U);
  other.join();
  tally_free(p);
}

// Small blocks that come back to this thread's slabs from another do not show as bytes returned.
TEST_F(LimitTest, WaitLastsUntilAnotherThreadFreesSmallBlocks) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_WAIT(1));
  auto blocks = fill_up(tag_, [] { return 500; });
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_WAIT(20000));
  std::vector<void*> few(blocks.end() - 3, blocks.end());
  blocks.resize(blocks.size() - 3);
  std::thread other([&] {
    os::sleep_ms(30);
    free_all(&few);
    os::sleep_ms(300);  // so that its end is not what gives them back
  });
  auto start = Clock::now();
  void* p = tally_malloc(tag_, 500);
  EXPECT_NE(p, nullptr);
  EXPECT_LT(ms_since(start), 10000);
  other.join();
  tally_free(p);
  free_all(&blocks);
}

TEST_F(LimitTest, WaitEndsWhenNothingComesBack) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_WAIT(80));
  void* p = tally_malloc(tag_, 900000);
  auto start = Clock::now();
  errno = 0;
  EXPECT_EQ(tally_malloc(tag_, 900000), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_GE(ms_since(start), 60);
  EXPECT_LT(ms_since(start), 5000);
  tally_free(p);
}

TEST_F(LimitTest, WaitEndsWhenTheLimitIsRaised) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_WAIT(20000));
  void* p = tally_malloc(tag_, 900000);
  std::thread other([&] {
    os::sleep_ms(30);
    tally_limit_set(tag_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_FAIL);
  });
  auto start = Clock::now();
  void* q = tally_malloc(tag_, 900000);
  EXPECT_NE(q, nullptr);
  EXPECT_LT(ms_since(start), 10000);
  other.join();
  tally_free(p);
  tally_free(q);
}

TEST_F(LimitTest, ACallbackComesBeforeTheWait) {
  Evictor evictor;
  evictor.tag = tag_;
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_WAIT(20000));
  tally_on_pressure(tag_, evict, &evictor, nullptr);
  evictor.blocks.push_back(tally_malloc(tag_, 900000));
  auto start = Clock::now();
  void* p = tally_malloc(tag_, 900000);
  EXPECT_NE(p, nullptr);
  EXPECT_LT(ms_since(start), 1000);
  EXPECT_EQ(stats(tag_).waited_count, 0U);
  tally_off_pressure(tag_, evict, &evictor);
  tally_free(p);
}

TEST_F(LimitTest, AbortTellsWhatAndWhere) {
  KeepOptions keep;
  std::string path = testing::TempDir() + "limit_test." + std::to_string(getpid());
  strcpy(options.log_path, path.c_str());
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_ABORT);
  EXPECT_EXIT(
      {
        while (tally_malloc(tag_, 1000) != nullptr) {
        }
      },
      testing::KilledBySignal(SIGABRT), "");
  std::ifstream file(path);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  unlink(path.c_str());
  EXPECT_EQ(text.find("tally: limit: /AbortTellsWhatAndWhere may have no more, and the program "
                      "ends: asked 1000 B, "),
            0U)
      << text;
  for (const char* part :
       {", limit 1.00 MiB with a reserve of 64.0 KiB, live ", ", would fit after a trim: no\n",
        "\nTAG ", "\nthe sizes that take most:\n  ",
        " in blocks of 1024 bytes of /AbortTellsWhatAndWhere, "}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

// ---- What was once wrong.

// A slab whose free pages went back needs a charge to give a block; others behind it do not.
TEST_F(LimitTest, FreeBlocksBehindASlabWithHolesAreFound) {
  auto blocks = std::vector<void*>();
  for (int i = 0; i < 40000; ++i) blocks.push_back(tally_malloc(tag_, 64));
  std::vector<void*> left;
  size_t freed = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    // Of the first thousand all, so that pages go back; then here and there.
    if (i < 1000 || i % 5 == 0) {
      tally_free(blocks[i]);
      if (i >= 1000) ++freed;
    } else {
      left.push_back(blocks[i]);
    }
  }
  tally_trim();
  tally_limit_set(tag_, TALLY_LIMIT_NONE, held(), TALLY_POLICY_FAIL);
  size_t got = left.size();
  while (void* p = tally_malloc(tag_, 64)) left.push_back(p);
  EXPECT_GE(left.size() - got, freed * 9 / 10);
  free_all(&left);
}

// As a cache does that gives up one entry for each failure.
TEST_F(LimitTest, OneBlockFreedIsOneBlockToHave) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_FAIL);
  auto blocks = fill_up(tag_, [] { return 256; });
  Random random(5);
  int refused = 0;
  for (int i = 0; i < 20000; ++i) {
    while (void* p = tally_malloc(tag_, 256)) blocks.push_back(p);
    void*& victim = blocks[random.below(blocks.size())];
    tally_free(victim);
    while ((victim = tally_malloc(tag_, 256)) == nullptr) {
      ++refused;
      tally_free(blocks.back());
      blocks.pop_back();
    }
  }
  EXPECT_LE(refused, 10);
  free_all(&blocks);
}

TEST_F(LimitTest, GrowthInPlaceIsTriedAgainAfterACallback) {
  static void* junk;
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 16 << 20, TALLY_POLICY_FAIL);
  junk = tally_malloc(tag_, 3 << 20);
  void* p = tally_malloc(tag_, 12 << 20);
  auto drop = [](tally_tag, int, void*) {
    tally_free(junk);
    junk = nullptr;
  };
  tally_on_pressure(tag_, drop, nullptr, nullptr);
  void* grown = tally_realloc(TALLY_TAG_NONE, p, 14 << 20);
  EXPECT_NE(grown, nullptr);
  EXPECT_EQ(junk, nullptr);
  tally_off_pressure(tag_, drop, nullptr);
  tally_free(grown == nullptr ? p : grown);
}

TEST_F(LimitTest, ToShrinkNeverWaitsNorAborts) {
  void* p = tally_malloc(tag_, 900000);
  for (tally_policy policy : {TALLY_POLICY_WAIT(5000), TALLY_POLICY_ABORT}) {
    tally_limit_set(tag_, TALLY_LIMIT_NONE, 0, policy);
    void* q = tally_realloc(TALLY_TAG_NONE, p, 100);
    EXPECT_EQ(q, p);
  }
  EXPECT_EQ(stats(tag_).refused_count, 0U);
  EXPECT_EQ(stats(tag_).waited_count, 0U);
  tally_free(p);
}

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST_F(LimitTest, AHandlerOfTheAbortMayAllocate) {
  static tally_tag full;
  full = tag_;
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 1 << 20, TALLY_POLICY_ABORT);
  EXPECT_EXIT(
      {
        signal(SIGABRT, [](int) {
          for (int i = 0; i < 100; ++i) tally_free(tally_malloc(full, 900));
          while (tally_malloc(full, 900) != nullptr) {
          }
          _exit(3);
        });
        while (tally_malloc(tag_, 1000) != nullptr) {
        }
      },
      testing::ExitedWithCode(3), "");
}
#endif

TEST_F(LimitTest, WhatWasRefusedOnceIsNotShortForGood) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 << 20, TALLY_POLICY_FAIL);
  void* p = tally_malloc(tag_, 5 << 20);
  EXPECT_EQ(tally_malloc(tag_, 4 << 20), nullptr);
  tally_free(p);
  EXPECT_FALSE(find_tag(tag_)->is_short());
  auto blocks = fill_up(tag_, [] { return 3000; });
  EXPECT_TRUE(find_tag(tag_)->is_short());
  free_all(&blocks);
  EXPECT_FALSE(find_tag(tag_)->is_short());
}

TEST_F(LimitTest, ARequestThatNeverFitsSpendsNothing) {
  Heard heard;
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_WAIT(20000));
  tally_on_pressure(tag_, hear, &heard, nullptr);
  auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(tally_malloc(tag_, 100 << 20), nullptr);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_TRUE(heard.levels.empty()) << "nothing that is evicted would help";
  EXPECT_EQ(stats(tag_).waited_count, 0U);
  tally_off_pressure(tag_, hear, &heard);
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 4 << 20, TALLY_POLICY_FAIL);
  EXPECT_EQ(tally_malloc(tag_, 100 << 20), nullptr);
  auto blocks = fill_up(tag_, [] { return 50000; });
  EXPECT_LE(held(), (4U << 20) - options.reserve) << "the reserve is there still";
  free_all(&blocks);
}

TEST_F(LimitTest, EventsOfAThreadThatEndsAreTold) {
  Heard heard;
  tally_limit_set(tag_, 1 << 20, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  auto options = without_interval();
  tally_on_pressure(tag_, hear, &heard, &options);
  on_thread([&] {
    static thread_local struct Late {
      std::vector<void*> blocks;
      ~Late() { free_all(&blocks); }
    } late;
    for (int i = 0; i < 30000; ++i) late.blocks.push_back(tally_malloc(tag_, 100));
  });
  tally_trim();
  EXPECT_EQ(heard.levels, std::vector<int>({1, 0}));
  for (int i = 0; i < 5; ++i) {
    os::sleep_ms(20);
    heard = {};
    tally_charge(tag_, 2 << 20);
    tally_uncharge(tag_, 2 << 20);
    EXPECT_EQ(heard.levels, std::vector<int>({1, 0})) << "and those after it";
  }
  tally_off_pressure(tag_, hear, &heard);
}

TEST_F(LimitTest, ListenersHearOfLimitsAbove) {
  Heard heard;
  tally_limit_set(tag_, 1 << 20, 2 << 20, TALLY_POLICY_FAIL);
  tally_on_pressure(below_, hear, &heard, nullptr);
  tally_charge(tag_, 3 << 19);
  EXPECT_EQ(heard.levels, std::vector<int>({TALLY_PRESSURE_SOFT}));
  EXPECT_EQ(tally_charge(tag_, 1 << 20), -1);
  EXPECT_EQ(heard.levels[1], TALLY_PRESSURE_HARD);
  tally_uncharge(tag_, 3 << 19);
  EXPECT_EQ(heard.levels.back(), TALLY_PRESSURE_NORMAL);
  tally_off_pressure(below_, hear, &heard);
}

TEST_F(LimitTest, WhoRegistersLateIsToldAtOnce) {
  Heard heard;
  tally_limit_set(tag_, 1000, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_charge(tag_, 2000);
  tally_on_pressure(tag_, hear, &heard, nullptr);
  EXPECT_EQ(heard.levels, std::vector<int>({TALLY_PRESSURE_SOFT}));
  tally_uncharge(tag_, 2000);
  tally_off_pressure(tag_, hear, &heard);
}

// Slabs that are kept though they are empty are given back before anybody is told.
TEST_F(LimitTest, WhatIsMerelyKeptIsNoPressure) {
  Heard heard;
  fake_os::set_clock(os::now_ms());  // by time nothing goes back, however busy the machine
  tally_limit_set(tag_, 4 << 20, 8 << 20, TALLY_POLICY_FAIL);
  tally_on_pressure(tag_, hear, &heard, nullptr);
  std::vector<void*> blocks;
  for (int i = 0; i < 60000; ++i) blocks.push_back(tally_malloc(tag_, 64));
  free_all(&blocks);
  EXPECT_GT(held(), 2U << 20);
  for (int i = 0; i < 2000; ++i) blocks.push_back(tally_malloc(tag_, 1000));
  EXPECT_TRUE(heard.levels.empty());
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_NORMAL);
  EXPECT_EQ(stats(tag_).pressure_count, 0U);
  free_all(&blocks);
  tally_off_pressure(tag_, hear, &heard);
}

TEST_F(LimitTest, NoTagIsMadeBelowTallysOwn) {
  EXPECT_EQ(tally_tag_create("/tally/mine"), TALLY_TAG_NONE);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(tally_tag_find("/tally"), kOwnTag);
}

TEST_F(LimitTest, ASoftLimitOfZeroCanBeLeft) {
  tally_limit_set(tag_, 0, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  tally_charge(tag_, 1);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_SOFT);
  tally_uncharge(tag_, 1);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_NORMAL);
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
