#include "heap/commons.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>

#include "base/options.h"
#include "base/preempt.h"
#include "fake_os.h"
#include "heap/purge.h"
#include "heap/thread.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

// The tag is used by the main thread and by another that lives as long as the test.
class CommonsTest : public testing::Test {
 protected:
  CommonsTest() {
    std::string path = "/unit/commons/";
    fake_os::advance_clock(0);
    tag_ = make_tag((path + testing::UnitTest::GetInstance()->current_test_info()->name()).c_str());
    tally_free(allocate(8000));
    other_ = std::thread([this] {
      tally_free(allocate(8000));
      ready_.set_value();
      leave_.get_future().wait();
    });
    ready_.get_future().wait();
    before_ = own(tag_).footprint_bytes;
  }
  ~CommonsTest() override {
    leave_.set_value();
    other_.join();
  }
  void* allocate(size_t n) const {
    void* p = tally_malloc(tag_, n);
    EXPECT_NE(p, nullptr);
    return p;
  }
  static bool is_lent(void* p) { return slab_of(p)->owner.load() == &commons; }
  uint64_t live() const { return own(tag_).live_blocks; }

  tally_tag tag_;
  uint64_t before_;

 private:
  std::thread other_;
  std::promise<void> ready_, leave_;
};

TEST_F(CommonsTest, ThreadsShareASlab) {
  void* mine = allocate(200);
  void* theirs = nullptr;
  on_thread([&] { theirs = allocate(200); });
  EXPECT_TRUE(is_lent(mine));
  EXPECT_EQ(slab_of(mine), slab_of(theirs));
  EXPECT_EQ(live(), 2U);
  tally_free(mine);
  tally_free(theirs);
  EXPECT_EQ(live(), 0U);
}

TEST_F(CommonsTest, ACacheLineIsOneThreads) {
  void* mine = allocate(16);
  void* theirs = nullptr;
  on_thread([&] { theirs = allocate(16); });
  auto line = [](void* p) { return reinterpret_cast<uintptr_t>(p) / kCacheLine; };
  EXPECT_NE(line(mine), line(theirs));
  void* next = allocate(16);
  EXPECT_EQ(line(next), line(mine));
  for (void* p : {mine, theirs, next}) tally_free(p);
  EXPECT_EQ(live(), 0U);
}

TEST_F(CommonsTest, WhoNeedsManyHasASlab) {
  std::vector<void*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(allocate(64));
  auto own = std::find_if_not(blocks.begin(), blocks.end(), is_lent);
  EXPECT_EQ(own - blocks.begin(), 2048 / 64);
  EXPECT_TRUE(std::none_of(own, blocks.end(), is_lent));
  EXPECT_EQ(slab_of(blocks.back())->owner.load(), tls.thread);
  EXPECT_EQ(live(), 100U);
  std::for_each(blocks.begin(), blocks.end(), tally_free);
  EXPECT_EQ(live(), 0U);
}

TEST_F(CommonsTest, LongBlocksAreNotLent) {
  void* p = allocate(1025);
  EXPECT_FALSE(is_lent(p));
  tally_free(p);
}

TEST_F(CommonsTest, WhoIsAloneHasASlab) {
  tally_tag alone = make_tag("/unit/commons/alone");
  void* p = tally_malloc(alone, 64);
  EXPECT_FALSE(is_lent(p));
  tally_free(p);
}

TEST_F(CommonsTest, WhatWasFreedIsUsedAgain) {
  void* first = allocate(300);
  ASSERT_TRUE(is_lent(first));
  for (int i = 0; i < 3; ++i) {
    tally_free(first);
    EXPECT_EQ(live(), 0U);
    EXPECT_EQ(allocate(300), first);
    EXPECT_EQ(live(), 1U);
  }
  tally_free(first);
}

TEST_F(CommonsTest, AnotherThreadsFreeReachesTheSlab) {
  void* p = allocate(64);
  on_thread([&] { tally_free(p); });  // its end gives back what it collected
  EXPECT_EQ(slab_of(p)->remote.count(), 1U);
  EXPECT_EQ(live(), 0U);
}

TEST_F(CommonsTest, AThreadsEndGivesBackWhatItBorrowed) {
  void* theirs = nullptr;
  on_thread([&] {
    theirs = allocate(500);
    tally_free(theirs);
  });
  EXPECT_EQ(slab_of(theirs)->remote.count(), 1U);
  EXPECT_EQ(live(), 0U);
  purge_all();
  EXPECT_NE(slab_of(theirs)->what().kind, SlabKind::kBlocks) << "the lender keeps nothing in hand";
}

TEST_F(CommonsTest, WhatComesBackGoesBackInTime) {
  on_thread([&] {
    for (size_t n : {16, 48, 200, 1000}) tally_free(allocate(n));
  });
  EXPECT_GT(own(tag_).footprint_bytes, 0U);
  EXPECT_EQ(live(), 0U);
  fake_os::advance_clock(options.purge_ms + 1);
  purge_tick();
  EXPECT_EQ(own(tag_).footprint_bytes, before_) << "but for what the two threads have in hand";
}

#if TALLY_CHECKS  // else nobody can be made to wait there
std::atomic<bool> reading{false};

void wait_for_reader(const char* point) {
  if (strcmp(point, "flush: a block goes back") != 0 || !commons.lock.held_by_me()) return;
  while (!reading.load()) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::microseconds(100));
}

// Tally's own thread passes the purge, or trims as it was told from outside, while the program does
// nothing.
class CommonsAtRestTest : public CommonsTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Purge, CommonsAtRestTest, testing::Bool());

TEST_P(CommonsAtRestTest, CountsStayAsTheyAreWhileWhatIsInHandGoesBack) {
  constexpr int kRounds = 50;
  int wrong = 0;
  for (int i = 0; i < kRounds; ++i) {
    on_thread([&] { tally_free(allocate(640)); });
    reading = false;
    point_hook = wait_for_reader;
    std::thread flusher([] {
      if (GetParam()) {
        purge_all(false);
        return;
      }
      for (int look = 0; look < 3; ++look) {  // that it is idle shows at the second
        fake_os::advance_clock(options.purge_ms + 1);
        purge_tick();
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    reading = true;
    wrong += live() != 0;
    flusher.join();
    point_hook = nullptr;
  }
  EXPECT_LE(wrong, 1) << "of " << kRounds << "; one, as the other may get no processor for long";
  EXPECT_EQ(live(), 0U);
}
#endif

// Whatever the size: each part ends with a line.
TEST_F(CommonsTest, NoLineIsTwoThreads) {
  for (size_t n : {16, 32, 48, 80, 96, 112, 160, 224, 320}) {
    void* mine = allocate(n);
    uintptr_t theirs = 0;
    on_thread([&] {
      void* p = allocate(n);
      theirs = reinterpret_cast<uintptr_t>(p);
      tally_free(p);
    });
    ASSERT_TRUE(is_lent(mine));
    EXPECT_NE((reinterpret_cast<uintptr_t>(mine) + n - 1) / kCacheLine, theirs / kCacheLine) << n;
    tally_free(mine);
  }
}

TEST_F(CommonsTest, NothingStaysOfARetiredTag) {
  tally_tag tag = make_tag("/unit/commons/retired");
  void* mine = tally_malloc(tag, 64);
  void* lent = nullptr;
  on_thread([&] { lent = tally_malloc(tag, 64); });
  void* more = tally_malloc(tag, 128);
  EXPECT_EQ(tally_tag_retire(tag), 0);
  for (void* p : {mine, lent, more}) tally_free(p);
  purge_all();
  EXPECT_EQ(make_tag("/unit/commons/next"), tag) << "the id is used again";
}

TEST_F(CommonsTest, ABlockFreedTwiceIsNotLentTwice) {
  KeepOptions keep;
  options.abort_on_corruption = false;
  void* p = allocate(700);
  void* q = allocate(700);
  ASSERT_TRUE(is_lent(p) && is_lent(q));
  for (void* r : {p, q, p}) tally_free(r);
  testing::internal::CaptureStderr();
  void* next = allocate(700);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("double free of"), std::string::npos);
  EXPECT_NE(next, p);
  EXPECT_NE(next, q);
  tally_free(next);
}

}  // namespace
}  // namespace tally::unit
