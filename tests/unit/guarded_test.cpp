#include "heap/guarded.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <string>

#include "api/malloc_api.h"
#include "fake_os.h"
#include "heap/free.h"
#include "heap/guard_report.h"
#include "heap/purge.h"
#include "heap/thread.h"
#include "os/os.h"
#include "sample/profile.h"
#include "stats/pages.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// Every block is sampled, and every sample guarded, unless a test says otherwise. What is said
// exactly is tests/misuse's.
class GuardedTest : public testing::Test {
 protected:
  GuardedTest() {
    tag_ = make_tag((std::string("/unit/guarded/") +
                     testing::UnitTest::GetInstance()->current_test_info()->name())
                        .c_str());
    options.abort_on_corruption = false;
  }
  static void guard(uint32_t every) {
    profile.start(1);
    ASSERT_TRUE(start_guarding(every));
  }
  static bool is_guarded(const void* p) { return slab_of(p)->what().kind == SlabKind::kGuarded; }
  static bool ends_at_guard(const void* p, size_t n) {
    n = std::max<size_t>(n, 1);
    return (address(p) + n + kMinAlignment - 1) / kMinAlignment * kMinAlignment % kSlotBytes == 0;
  }
  // One that ends at its guard, or one that begins at a page's start.
  void* allocate(size_t n, bool at_end = true) {
    std::vector<void*> others;
    void* p;
    while (p = tally_malloc(tag_, n), ends_at_guard(p, n) != at_end) others.push_back(p);
    for (void* other : others) tally_free(other);
    return p;
  }
  template <class Step>
  static std::string said(Step step) {
    testing::internal::CaptureStderr();
    step();
    return testing::internal::GetCapturedStderr();
  }

  KeepOptions keep_;
  tally_tag tag_;
};

TEST_F(GuardedTest, OffThereAreNone) {
  profile.start(2);
  ASSERT_TRUE(start_guarding(0));
  EXPECT_FALSE(is_guarded(tally_malloc(tag_, 100)));
  EXPECT_EQ(guarded::pool().bytes, 0U);
}

TEST_F(GuardedTest, OneOfSoManySamplesIs) {
  guard(4);
  std::vector<void*> blocks(400);
  for (void*& p : blocks) p = tally_malloc(tag_, 64);
  EXPECT_EQ(std::count_if(blocks.begin(), blocks.end(), is_guarded), 100);
  EXPECT_EQ(own(tag_).live_blocks, 400U);
  for (void* p : blocks) tally_free(p);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
  EXPECT_EQ(profile.sample_count(), 0U);
}

TEST_F(GuardedTest, EverySizeHasItsPlaceAndEveryByteOfIt) {
  guard(1);
  for (size_t n = 0; n <= kMediumMax; n += n < 100 ? 1 : n / 7) {
    for (bool at_end : {true, false}) {
      const bool has_both =
          n != 0 && (n + kMinAlignment - 1) / kMinAlignment * kMinAlignment % os::page_size() == 0;
      auto* p = static_cast<char*>(allocate(n, at_end || has_both));
      ASSERT_TRUE(is_guarded(p)) << n;
      EXPECT_EQ(address(p) % kMinAlignment, 0U);
      EXPECT_EQ(tally_usable_size(p), std::max<size_t>(n, 1)) << "an overflow by a byte is one";
      EXPECT_EQ(tally_tag_of(p), tag_);
      EXPECT_EQ(stats(tag_).own.live_bytes, std::max<size_t>(n, 1));
      memset(p, 0x5a, n);
      EXPECT_EQ(said([&] { tally_free(p); }), "") << n;
    }
  }
  EXPECT_EQ(own(tag_).footprint_bytes, 0U);
  EXPECT_EQ(guarded::slack_bytes(), 0U);
}

TEST_F(GuardedTest, LargeBlocksAreSampledAlone) {
  guard(1);
  EXPECT_FALSE(is_guarded(tally_malloc(tag_, kMediumMax + 1)));
}

TEST_F(GuardedTest, AlignedOnesEndAsNearAsTheyCan) {
  guard(1);
  for (size_t alignment = 1; alignment <= os::page_size(); alignment *= 2) {
    for (size_t n : {1, 24, 100, 1000, 5000, 40000}) {
      void* p = tally_aligned_alloc(tag_, alignment, n);
      ASSERT_TRUE(is_guarded(p)) << n << ' ' << alignment;
      EXPECT_EQ(address(p) % std::max(alignment, kMinAlignment), 0U);
      fill(p, n, 3);
      EXPECT_EQ(said([&] { tally_free(p); }), "");
    }
  }
}

TEST_F(GuardedTest, ZeroedOnesAre) {
  guard(1);
  ASSERT_EQ(tally_tag_push(tag_), 0);
  for (int i = 0; i < 3000; ++i) {
    void* p = api::calloc(10, 37, nullptr);
    ASSERT_TRUE(is_guarded(p) && is_zero(p, 370));
    fill(p, 370, 9);
    tally_free(p);
  }
  ASSERT_EQ(tally_tag_pop(), 0);
}

TEST_F(GuardedTest, ReallocMovesTheBlockSoThatItsEndIsGuarded) {
  guard(1);
  ASSERT_EQ(tally_tag_push(tag_), 0);
  size_t have = 1;
  void* p = api::realloc(nullptr, have, nullptr);
  fill(p, have, 1);
  for (size_t n : {17, 16, 100, 99, 5000, 64, 70000, 60000, 3000, 3000, 2, 1}) {
    void* old = p;
    p = api::realloc(p, n, nullptr);
    EXPECT_TRUE(is_filled(p, std::min(have, n), static_cast<unsigned>(have))) << n;
    EXPECT_EQ(p == old, n == have) << n;
    EXPECT_EQ(is_guarded(p), n <= kMediumMax) << n;
    fill(p, n, static_cast<unsigned>(n));
    have = n;
    EXPECT_EQ(own(tag_).live_bytes, tally_usable_size(p));
    EXPECT_EQ(own(tag_).live_blocks, 1U);
  }
  EXPECT_EQ(api::realloc(p, 0, nullptr), nullptr);
  ASSERT_EQ(tally_tag_pop(), 0);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(GuardedTest, CountsAreExactAndPagesAreCharged) {
  guard(1);
  const size_t page = os::page_size();
  Random random(5);
  std::vector<std::pair<void*, size_t>> live;
  uint64_t asked = 0, bytes = 0, pages = 0, count = 0;
  for (int i = 0; i < 5000; ++i) {
    if (live.size() == 200 || (!live.empty() && random.below(2) == 0)) {
      std::swap(live[random.below(live.size())], live.back());
      auto [p, n] = live.back();
      live.pop_back();
      bytes -= n;
      pages -= (n + page - 1) / page * page;
      tally_free(p);
    } else {
      const size_t n = 1 + random.below(20000);
      live.emplace_back(tally_malloc(tag_, n), n);
      asked += n;
      bytes += n;
      pages += (n + page - 1) / page * page;
      ++count;
    }
    const tally_counts counts = own(tag_);
    ASSERT_EQ(counts.live_bytes, bytes);
    ASSERT_EQ(counts.live_blocks, live.size());
    ASSERT_EQ(counts.footprint_bytes, pages);
    ASSERT_EQ(counts.requested_bytes, asked);
    ASSERT_EQ(counts.alloc_count, count);
    ASSERT_EQ(counts.free_count, count - live.size());
    ASSERT_EQ(guarded::slack_bytes(), pages - bytes);
  }
  Stretch space[64];
  Stretches stretches(space, 64);
  const Pages looked_at = look_at_pages(0, 0, &stretches);
  EXPECT_GE(looked_at.ends, pages - bytes) << "in the ledger";
  EXPECT_EQ(profile.sample_count(), live.size());
  for (auto [p, n] : live) tally_free(p);
}

TEST_F(GuardedTest, APlaceIsUsedAgainAfterHalfOfAllWere) {
  guard(1);
  void* first = tally_malloc(tag_, 100);
  tally_free(first);
  const Slab* place = slab_of(first);
  std::set<const Slab*> seen;
  unsigned until = 0;
  for (; until < 3 * guarded::kPlaces; ++until) {
    void* p = tally_malloc(tag_, 100);
    const Slab* slab = slab_of(p);
    tally_free(p);
    if (slab == place) break;
    EXPECT_TRUE(seen.insert(slab).second) << "each once, until it is the first one's turn";
  }
  EXPECT_EQ(until, guarded::kPlaces - 1);
  std::vector<void*> live;
  while (live.size() < guarded::kLiveMost) live.push_back(tally_malloc(tag_, 100));
  void* freed = live.back();
  live.pop_back();
  place = slab_of(freed);
  tally_free(freed);
  for (unsigned i = 0; i < guarded::kPlaces - guarded::kLiveMost; ++i) {
    void* p = tally_malloc(tag_, 100);
    EXPECT_NE(slab_of(p), place);
    tally_free(p);
  }
  void* p = tally_malloc(tag_, 100);
  EXPECT_EQ(slab_of(p), place);
  tally_free(p);
  for (void* each : live) tally_free(each);
}

TEST_F(GuardedTest, WithoutAPlaceASampleIsPlain) {
  guard(1);
  std::vector<void*> live;
  for (unsigned i = 0; i < 2 * guarded::kLiveMost; ++i) live.push_back(tally_malloc(tag_, 100));
  EXPECT_EQ(std::count_if(live.begin(), live.end(), is_guarded), guarded::kLiveMost);
  EXPECT_EQ(own(tag_).live_blocks, live.size());
  EXPECT_EQ(profile.sample_count(), live.size());
  for (void* p : live) tally_free(p);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
  EXPECT_TRUE(is_guarded(tally_malloc(tag_, 100)));
}

TEST_F(GuardedTest, WithoutAddressesNoneIs) {
  profile.start(2);
  fake_os::Failing failing(fake_os::kMap);
  EXPECT_FALSE(start_guarding(1));
  fake_os::fail_none();
  EXPECT_FALSE(is_guarded(tally_malloc(tag_, 100)));
}

// What a guarded block takes in pages is what a plain one has for many.
TEST_F(GuardedTest, NearALimitBlocksComeBeforeGuards) {
  guard(1);
  const size_t limit = 16 * os::page_size();
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, limit, TALLY_POLICY_FAIL), 0);
  std::vector<void*> blocks;
  while (void* p = tally_malloc(tag_, 50)) {
    blocks.push_back(p);
    ASSERT_LE(own(tag_).footprint_bytes, limit);
  }
  const auto guards = std::count_if(blocks.begin(), blocks.end(), is_guarded);
  EXPECT_GT(guards, 10);
  EXPECT_LE(guards, 16);
  EXPECT_EQ(own(tag_).live_blocks, blocks.size());
  for (void* p : blocks) tally_free(p);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(GuardedTest, ARetiredTagGoesWhenItsBlocksDo) {
  guard(1);
  std::vector<void*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(tally_malloc(tag_, 300));
  ASSERT_EQ(tally_tag_retire(tag_), 0);
  EXPECT_EQ(tally_tag_of(blocks[0]), tag_);
  blocks[0] = tally_realloc(TALLY_TAG_NONE, blocks[0], 5000);
  for (void* p : blocks) tally_free(p);
  // The thread's heap, which the realloc needed, goes in some slow steps.
  for (int i = 0; i < 200; ++i) tally_free(tally_malloc(TALLY_TAG_ROOT, 100));
  EXPECT_EQ(make_tag("/unit/guarded/other"), tag_) << "its id is free";
  std::string line = said([&] { tally_free(blocks[5]); });
  EXPECT_NE(line.find("(tag /unit/guarded/ARetiredTag"), std::string::npos) << "not the other's";
}

TEST_F(GuardedTest, AnyThreadFrees) {
  guard(1);
  std::vector<std::thread> threads;
  std::atomic<void*> handed[64] = {};
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Random random(static_cast<uint64_t>(t) + 1);
      for (int i = 0; i < 5000; ++i) {
        const size_t n = 1 + random.below(2000);
        void* p = tally_malloc(tag_, n);
        fill(p, n, 1);
        tally_free(handed[random.below(64)].exchange(p));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (auto& p : handed) tally_free(p);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
  EXPECT_EQ(own(tag_).footprint_bytes, 0U);
  EXPECT_EQ(profile.sample_count(), 0U);
}

TEST_F(GuardedTest, OfTwoThreadsThatFreeABlockOneIsTold) {
  guard(1);
  for (int i = 0; i < 200; ++i) {
    void* p = tally_malloc(tag_, 100);
    std::string text = said([&] {
      std::thread other([&] { tally_free(p); });
      tally_free(p);
      other.join();
    });
    ASSERT_EQ(text.find("tally: double free of "), 0U) << text;
    ASSERT_EQ(text.find("double free", 10), std::string::npos) << text;
  }
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

TEST_F(GuardedTest, AChildGoesOn) {
  guard(1);
  std::vector<void*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(tally_malloc(tag_, 100));
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (void* p : blocks) tally_free(p);
    for (int i = 0; i < 2000; ++i) tally_free(tally_malloc(tag_, 100));
    _exit(own(tag_).live_blocks == 0 && is_guarded(tally_malloc(tag_, 1)) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  for (void* p : blocks) tally_free(p);
  EXPECT_EQ(own(tag_).live_blocks, 0U);
}

// ---- What shows.

TEST_F(GuardedTest, DamageBesideABlockShowsAtItsFree) {
  guard(1);
  struct {
    size_t n;
    bool at_end;
    long at;
    const char* what;
  } cases[] = {{13, true, 13, "overflow"},      {13, true, 15, "overflow"},
               {13, true, -1, "underflow"},     {13, true, -4000, "underflow"},
               {4000, false, 4000, "overflow"}, {5000, true, -1, "underflow"},
               {100, false, 3999, "overflow"}};
  for (auto& each : cases) {
    auto* p = static_cast<char*>(allocate(each.n, each.at_end));
    p[each.at] = 1;
    std::string text = said([&] { tally_free(p); });
    EXPECT_EQ(text.find(std::string("tally: ") + each.what), 0U) << text;
    const long by = each.at < 0 ? -each.at : each.at - static_cast<long>(each.n) + 1;
    EXPECT_NE(text.find(", " + std::to_string(by) + " byte"), std::string::npos) << text;
  }
  EXPECT_EQ(own(tag_).live_blocks, 0U) << "it was freed all the same";
}

TEST_F(GuardedTest, AnAddressIsTheNearestBlocks) {
  guard(1);
  auto* a = static_cast<char*>(allocate(1000));
  auto* b = static_cast<char*>(tally_malloc(tag_, 1000));
  EXPECT_EQ(guarded::nearest_to(address(a)), guarded::place_of(slab_of(a)));
  EXPECT_EQ(guarded::nearest_to(address(a + 1000)), guarded::place_of(slab_of(a)));
  EXPECT_EQ(guarded::nearest_to(address(a - 5000)), guarded::place_of(slab_of(a)));
  EXPECT_EQ(guarded::nearest_to(address(b - 4096)), guarded::place_of(slab_of(b)));
  EXPECT_EQ(guarded::nearest_to(address(&keep_)), nullptr);
  const guarded::Pool pool = guarded::pool();
  EXPECT_EQ(guarded::nearest_to(address(pool.start + pool.bytes)), nullptr);
  EXPECT_EQ(guarded::nearest_to(address(pool.start + pool.bytes - 1)), nullptr) << "no block yet";
  tally_free(a);
  EXPECT_EQ(guarded::nearest_to(address(a)), guarded::place_of(slab_of(a)));
}

// The program asked to go on after reports.
TEST_F(GuardedTest, WhoIsLetThroughIsToldOnceForABlock) {
  guard(1);
  auto* p = static_cast<volatile char*>(allocate(64));
  std::string text = said([&] { p[64] = 1; });
  EXPECT_EQ(text.find("tally: overflow: "), 0U) << text;
  EXPECT_EQ(said([&] { p[65] = 2; }), "");
  EXPECT_EQ(said([&] { p[5000] = 2; }), "") << "another page";
  EXPECT_EQ(p[64], 1);
  tally_free(const_cast<char*>(p));
  EXPECT_EQ(said([&] { p[0] = 1; }), "") << "the block's, too";
  // Until the place is used again.
  const Slab* place = slab_of(const_cast<char*>(p));
  for (unsigned i = 0; i < guarded::kPlaces; ++i) {
    void* next = tally_malloc(tag_, 64);
    if (slab_of(next) == place) p = static_cast<volatile char*>(next);
    tally_free(next);
  }
  EXPECT_EQ(said([&] { p[64] = 1; }).find("tally: use after free: "), 0U);
}

// ---- Who handled faults before.

// Where nothing is, and no sanitizer says so.
const uintptr_t kNowhere = 64;
volatile sig_atomic_t g_handled = 0;
sigjmp_buf g_back;

void handle(int /*signal*/, siginfo_t* info, void* /*context*/) {
  g_handled = address(info->si_addr) == kNowhere ? 1 : 2;
  siglongjmp(g_back, 1);
}

TEST_F(GuardedTest, WhatFaultsElsewhereIsForWhoHandledItBefore) {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGSEGV, &action, nullptr), 0);
  guard(1);
  options.abort_on_corruption = true;
  auto* p = static_cast<volatile char*>(allocate(64));
  for (int i = 0; i < 2; ++i) {
    g_handled = 0;
    EXPECT_EQ(said([&] {
                if (sigsetjmp(g_back, 1) == 0) *reinterpret_cast<volatile int*>(kNowhere) = 1;
              }),
              "");
    EXPECT_EQ(g_handled, 1);
  }
  std::string text = said([&] {
    if (sigsetjmp(g_back, 1) == 0) p[64] = 1;
  });
  EXPECT_EQ(text.find("tally: overflow: "), 0U) << text;
  EXPECT_EQ(g_handled, 2) << "it ends the program, or does not";
}

TEST_F(GuardedTest, ASignalThatWasIgnoredIs) {
  signal(SIGSEGV, SIG_IGN);
  guard(1);
  EXPECT_EQ(raise(SIGSEGV), 0);
  EXPECT_EXIT(*reinterpret_cast<volatile int*>(kNowhere) = 1, testing::KilledBySignal(SIGSEGV),
              "^$");
}

TEST_F(GuardedTest, ASignalThatWasIgnoredIsAlsoWhereSomebodyPutUsBack) {
  signal(SIGSEGV, SIG_IGN);
  guard(1);
  for (int i = 0; i < 2; ++i) {
    signal(SIGSEGV, signal(SIGSEGV, SIG_DFL));
    EXPECT_EQ(raise(SIGSEGV), 0);
    EXPECT_EXIT(*reinterpret_cast<volatile int*>(kNowhere) = 1, testing::KilledBySignal(SIGSEGV),
                "^$");
  }
}

}  // namespace
}  // namespace tally::unit
