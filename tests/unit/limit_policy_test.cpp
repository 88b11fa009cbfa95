// What comes of a refusal: waits, the end, and what was once wrong.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "fake_os.h"
#include "limit.h"
#include "os/os.h"
#include "tag/limit.h"

namespace tally::unit {
namespace {

using namespace core;

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

}  // namespace
}  // namespace tally::unit
