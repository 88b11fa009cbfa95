#include "heap/sampling.h"

#include <cmath>
#include <map>
#include <set>
#include <string>

#include "api/malloc_api.h"
#include "fake_os.h"
#include "heap/purge.h"
#include "heap/thread.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

class SamplingTest : public testing::Test {
 protected:
  SamplingTest() {
    std::string path = "/unit/sampling/";
    tag_ = make_tag((path + testing::UnitTest::GetInstance()->current_test_info()->name()).c_str());
  }
  // All sums of the tag's sites.
  Site of_tag() const {
    LockGuard guard(profile.lock);
    Site sum = {};
    for (uint32_t i = 0; i < profile.site_end(); ++i) {
      const Site& site = profile.sites()[i];
      uint32_t name = profile.names().offset_of(find_tag(tag_)->name);
      if (!site.is_used || site.tag != name) continue;
      sum.allocated.add(site.allocated);
      sum.live.add(site.live);
      sum.samples += site.samples;
    }
    return sum;
  }
  // How far an estimate of so many blocks of each size may be from their count: five deviations.
  static double tolerance(const std::map<size_t, double>& blocks, uint64_t rate, bool in_bytes) {
    double variance = 0;
    for (auto [n, count] : blocks) {
      auto size = static_cast<double>(size_of(n));
      double p = chance(size_of(n), rate);
      variance += count * (1 - p) / p * (in_bytes ? size * size : 1);
    }
    return 5 * std::sqrt(variance) + 1;
  }
  // Of the block.
  static size_t size_of(size_t n) {
    return n <= kMediumMax ? class_size(class_of(n)) : round_up(n, os::page_size());
  }

  tally_tag tag_;
};

// Counts that are known, of sizes from the smallest to spans; by one thread or several, and with
// blocks freed meanwhile.
class UnbiasedTest : public SamplingTest, public testing::WithParamInterface<uint64_t> {};

TEST_P(UnbiasedTest, EstimatesAreTheCounts) {
  const uint64_t rate = GetParam();
  profile.start(rate);
  std::map<size_t, double> allocated = {{1, 300000},   {100, 200000},  {700, 100000}, {5000, 6000},
                                        {30000, 3000}, {100000, 1000}, {3000000, 60}};
  std::map<size_t, double> live;
  std::vector<std::vector<void*>> kept(3);
  for (auto [n, count] : allocated) live[n] = count / 3;
  for (auto& blocks : kept) {
    on_thread([&] {
      // In turn, a block of each size in its proportion.
      std::map<size_t, double> due;
      for (int step = 0; step < 1000; ++step) {
        for (auto [n, count] : allocated) {
          for (due[n] += count / 3000; due[n] >= 1; due[n] -= 1) {
            void* p = tally_malloc(tag_, n);
            if (blocks.size() % 3 == 0) {
              blocks.push_back(p);
            } else {
              // Two of three go at once, the kept one's place in the list is a gap.
              blocks.push_back(nullptr);
              tally_free(p);
            }
          }
        }
      }
    });
  }
  tally_counts counts = own(tag_);
  std::map<size_t, double> live_now;
  double live_bytes = 0, live_blocks = 0;
  for (auto& blocks : kept) {
    for (void* p : blocks) {
      if (p == nullptr) continue;
      live_now[tally_usable_size(p)] += 1;
      live_bytes += static_cast<double>(tally_usable_size(p));
      live_blocks += 1;
    }
  }
  ASSERT_EQ(counts.live_bytes, static_cast<uint64_t>(live_bytes));
  Site sum = of_tag();
  double exact = 0, exact_bytes = 0;
  for (auto [n, count] : allocated) {
    exact += count;
    exact_bytes += count * static_cast<double>(size_of(n));
  }
  EXPECT_NEAR(static_cast<double>(counts.alloc_count), exact, 30);
  EXPECT_NEAR(sum.allocated.objects, exact, tolerance(allocated, rate, false) + 30);
  EXPECT_NEAR(sum.allocated.bytes, exact_bytes, tolerance(allocated, rate, true) + 1e8);
  EXPECT_NEAR(sum.live.objects, live_blocks, tolerance(live_now, rate, false));
  EXPECT_NEAR(sum.live.bytes, live_bytes, tolerance(live_now, rate, true));
  for (auto& blocks : kept) {
    for (void* p : blocks) tally_free(p);
  }
  sum = of_tag();
  EXPECT_EQ(sum.samples, 0U);
  EXPECT_EQ(sum.live.objects, 0);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

INSTANTIATE_TEST_SUITE_P(Rates, UnbiasedTest, testing::Values(16384, 65536, 524288, 4194304));

// The mean over many runs: what one run's deviation would hide.
TEST_F(SamplingTest, TheMeanOfManyRunsIsTheCount) {
  for (uint64_t rate : {uint64_t{4096}, uint64_t{524288}}) {
    for (size_t n : {size_t{16}, size_t{4096}, size_t{200000}}) {
      profile.start(rate);
      double before = of_tag().allocated.objects;
      double count = 0;
      const int blocks = n == 16 ? 20000 : 500;
      for (int run = 0; run < 40; ++run) {
        on_thread([&] {
          std::vector<void*> kept;
          for (int i = 0; i < blocks; ++i) kept.push_back(tally_malloc(tag_, n));
          for (void* p : kept) tally_free(p);
        });
        count += blocks;
      }
      double estimate = of_tag().allocated.objects - before;
      EXPECT_NEAR(estimate, count, tolerance({{n, count}}, rate, false)) << rate << " " << n;
    }
  }
}

TEST_F(SamplingTest, EveryBlockOfAByteARate) {
  profile.start(2);
  std::set<void*> blocks;
  for (int i = 0; i < 200; ++i) blocks.insert(tally_malloc(tag_, 100));
  Site sum = of_tag();
  EXPECT_EQ(sum.samples, 200U);
  EXPECT_NEAR(sum.live.objects, 200, .001);
  EXPECT_EQ(own(tag_).live_blocks, 200U);
  for (void* p : blocks) EXPECT_EQ(slab_of(p)->owner.load(), &sampled);
  for (void* p : blocks) tally_free(p);
  EXPECT_EQ(of_tag().samples, 0U);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(SamplingTest, OffThereAreNone) {
  profile.start(0);
  uint64_t taken = profile.totals().taken;
  for (int i = 0; i < 1000; ++i) tally_free(tally_malloc(tag_, 5000));
  tally_free(tally_malloc(tag_, 5000000));
  EXPECT_EQ(profile.totals().taken, taken);
}

TEST_F(SamplingTest, ASampleIsFreedByAnyThread) {
  profile.start(2);
  void* p = tally_malloc(tag_, 64);
  on_thread([&] { tally_free(p); });
  EXPECT_EQ(of_tag().samples, 0U);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(SamplingTest, ARequestIsKnownToTheByte) {
  profile.start(2);
  void* small = tally_malloc(tag_, 99);
  void* large = tally_malloc(tag_, 1000001);
  std::set<uint64_t> requested;
  for (uint32_t i = 0; i < profile.sample_count(); ++i) {
    requested.insert(profile.samples()[i].requested);
  }
  EXPECT_TRUE(requested.contains(99));
  EXPECT_TRUE(requested.contains(1000001));
  tally_free(small);
  tally_free(large);
}

// Zeroed, aligned and grown ones too.
TEST_F(SamplingTest, EveryWayToAllocateIsSampled) {
  profile.start(2);
  ASSERT_EQ(tally_tag_push(tag_), 0);
  std::vector<void*> blocks = {api::calloc(10, 10, nullptr), api::aligned_alloc(256, 1000, nullptr),
                               api::memalign(4096, 8192, nullptr),
                               api::realloc(nullptr, 50, nullptr),
                               api::aligned_alloc(1 << 20, 5000, nullptr)};
  blocks[3] = api::realloc(blocks[3], 5000, nullptr);
  ASSERT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(of_tag().samples, blocks.size());
  EXPECT_TRUE(is_zero(blocks[0], 100));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks[1]) % 256, 0U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks[2]) % 4096, 0U);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks[4]) % (1 << 20), 0U);
  for (void* p : blocks) tally_free(p);
  EXPECT_EQ(of_tag().samples, 0U);
}

TEST_F(SamplingTest, AGrowingLargeBlockStaysItsSample) {
  profile.start(2);
  ASSERT_EQ(tally_tag_push(tag_), 0);
  void* p = api::realloc(nullptr, 200000, nullptr);
  for (size_t n = 200000; n < 20000000; n += 333333) {
    p = api::realloc(p, n, nullptr);
    EXPECT_EQ(of_tag().samples, 1U);
    EXPECT_NEAR(of_tag().live.bytes, static_cast<double>(tally_usable_size(p)), 1);
  }
  p = api::realloc(p, 300000, nullptr);
  EXPECT_EQ(of_tag().samples, 1U);
  EXPECT_NEAR(of_tag().live.bytes, static_cast<double>(tally_usable_size(p)), 1);
  ASSERT_EQ(tally_tag_pop(), 0);
  tally_free(p);
  EXPECT_EQ(of_tag().samples, 0U);
}

#if TALLY_CHECKS  // else nobody can come between
const void* where_it_was;
Tag* of_other;

// Another thread's block is had there, and sampled.
void take_its_place(const char* point) {
  if (strcmp(point, "large: resized") != 0) return;
  point_hook = nullptr;
  on_thread([] { profile.add({where_it_was, 300000, 300000}, 300000, of_other, {nullptr, 0}); });
}

TEST_F(SamplingTest, WhereAMovingBlockWasAnotherIsSampled) {
  profile.start(2);
  const tally_tag other = make_tag("/unit/sampling/other");
  of_other = find_tag(other);
  void* p = tally_malloc(tag_, 20000000);
  void* behind = tally_malloc(tag_, 20000000);  // so that it cannot stay
  for (size_t n = 40000000; where_it_was == nullptr || p == where_it_was; n *= 2) {
    ASSERT_LT(n, size_t{1} << 36);
    where_it_was = p;
    point_hook = take_its_place;
    p = tally_realloc(tag_, p, n);
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(point_hook.load(), nullptr);
  }
  EXPECT_EQ(of_tag().samples, 2U);
  tally_free(p);
  EXPECT_EQ(of_tag().samples, 1U);
  tally_free(behind);
  EXPECT_EQ(of_tag().samples, 0U);
  tag_ = other;
  EXPECT_EQ(of_tag().samples, 1U);
  profile.remove(where_it_was);
}
#endif

// Growth step by step is found as often as its bytes say.
TEST_F(SamplingTest, GrowthIsSampledByItsBytes) {
  constexpr uint64_t kRate = 1 << 20;
  profile.start(kRate);
  ASSERT_EQ(tally_tag_push(tag_), 0);
  double found = 0;
  constexpr int kRuns = 400;
  for (int run = 0; run < kRuns; ++run) {
    void* p = api::realloc(nullptr, 100000, nullptr);
    for (size_t n = 100000; n <= 2000000; n += 100000) p = api::realloc(p, n, nullptr);
    found += of_tag().samples;
    tally_free(p);
  }
  ASSERT_EQ(tally_tag_pop(), 0);
  double p = chance(2000000, kRate);
  EXPECT_NEAR(found, kRuns * p, 5 * std::sqrt(kRuns * p * (1 - p)));
}

// Where a limit has no page left for samples' slabs, blocks are as without.
TEST_F(SamplingTest, NearALimitBlocksComeBeforeSamples) {
  profile.start(2);
  const size_t limit = 16 * os::page_size();
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, limit, TALLY_POLICY_FAIL), 0);
  size_t count = 0;
  std::vector<void*> blocks;
  while (void* p = tally_malloc(tag_, 1000)) blocks.push_back(p);
  count = blocks.size();
  EXPECT_GT(count, limit / 1000 * 3 / 4);
  EXPECT_EQ(own(tag_).live_blocks, count);
  for (void* p : blocks) tally_free(p);
}

TEST_F(SamplingTest, ARetiredTagGoesWhenItsSamplesDo) {
  profile.start(2);
  std::vector<void*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(tally_malloc(tag_, 300));
  ASSERT_EQ(tally_tag_retire(tag_), 0);
  for (void* p : blocks) tally_free(p);
  fake_os::advance_clock(10000);
  purge_all();
  tally_tag again = make_tag("/unit/sampling/other");
  EXPECT_EQ(again, tag_) << "its id is free";
}

// What an idle heap has in hand goes back, and its points with it; nothing is lost or found twice.
TEST_F(SamplingTest, IdleHeapsAndTrimsLeaveTheCountsRight) {
  profile.start(4096);
  Random random(3);
  std::vector<void*> live;
  for (int i = 0; i < 20000; ++i) {
    if (random.below(3) != 0 || live.empty()) {
      live.push_back(tally_malloc(tag_, 16 << random.below(8)));
    } else {
      std::swap(live[random.below(live.size())], live.back());
      tally_free(live.back());
      live.pop_back();
    }
    if (i % 500 == 0) purge_all();
  }
  double exact = 0;
  std::map<size_t, double> sizes;
  for (void* p : live) {
    exact += static_cast<double>(tally_usable_size(p));
    sizes[tally_usable_size(p)] += 1;
  }
  EXPECT_EQ(own(tag_).live_blocks, live.size());
  EXPECT_NEAR(of_tag().live.bytes, exact, tolerance(sizes, 4096, true));
  for (void* p : live) tally_free(p);
  EXPECT_EQ(of_tag().samples, 0U);
}

// A thread's end, or an idle heap's, comes after any number of blocks, whether the next one was to
// be a sample or not.
TEST_F(SamplingTest, ShortThreadsAreSampledLikeOthers) {
  constexpr uint64_t kRate = 4096;
  constexpr size_t kBytes = 1024;
  profile.start(kRate);
  for (int most : {1, 2, 3, 5}) {
    double before = of_tag().allocated.objects, count = 0;
    for (int run = 0; run < 4000 / most; ++run) {
      on_thread([&] {
        for (int i = 0; i < most; ++i) tally_free(tally_malloc(tag_, kBytes));
      });
      count += most;
    }
    EXPECT_NEAR(of_tag().allocated.objects - before, count,
                tolerance({{kBytes, count}}, kRate, false))
        << most;
  }
}

TEST_F(SamplingTest, ThreadsSampleAtOnce) {
  profile.start(256);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Random random(static_cast<uint64_t>(t) + 1);
      std::vector<void*> live(64);
      for (int i = 0; i < 20000; ++i) {
        void*& p = live[random.below(live.size())];
        tally_free(p);
        p = tally_malloc(tag_, 1 + random.below(2000));
      }
      for (void* p : live) tally_free(p);
    });
  }
  for (int i = 0; i < 50; ++i) {
    {
      LockGuard guard(profile.lock);
      profile.settle();
    }
    purge_all();
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(of_tag().samples, 0U);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

}  // namespace
}  // namespace tally::unit
