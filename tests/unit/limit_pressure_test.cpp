// Who is told of a tag's level, and what a callback may do.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>

#include "fake_os.h"
#include "limit.h"
#include "os/os.h"
#include "tag/limit.h"

namespace tally::unit {
namespace {

using namespace core;

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

}  // namespace
}  // namespace tally::unit
