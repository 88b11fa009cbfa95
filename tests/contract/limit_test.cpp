// Limits as the program meets them: through malloc, operator new and the C interface.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "tally_test.h"

namespace {

constexpr uint64_t MiB = 1 << 20;

class Limit : public testing::Test {
 protected:
  Limit() {
    std::string path = "/limit/";
    tag_ = tally_tag_create(
        (path + testing::UnitTest::GetInstance()->current_test_info()->name()).c_str());
    EXPECT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 * MiB, TALLY_POLICY_FAIL), 0);
    blocks_.reserve(1 << 20);
  }
  ~Limit() override {
    for (void* p : blocks_) free(p);
  }
  void fill_up(size_t size) {
    while (void* p = malloc(size)) blocks_.push_back(p);
  }

  tally_tag tag_;
  std::vector<void*> blocks_;
};

// What nothing has is no matter of limits, and no event.
TEST_F(Limit, WhatNothingHasIsRefusedByNone) {
  ASSERT_EQ(tally_limit_set(tag_, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL), 0);
  for (tally_tag tag : {tag_, TALLY_TAG_ROOT}) {
    EXPECT_EQ(tally_malloc(tag, opaque(size_t{1} << 47)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(stats_of(tag).refused_count, 0U);
  }
}

TEST_F(Limit, EveryWayToAllocateFailsAsWithoutMemory) {
  for (size_t size : {100U, 5000U, 50000U, 200000U, 3000000U}) {
    const tally_tag tag = tally_tag_create(("/limit/every/" + std::to_string(size)).c_str());
    tally_tag_push(tag);
    blocks_.push_back(malloc(size));
    void* block = blocks_.back();
    memset(block, 7, size);
    tally_limit_set(tag, TALLY_LIMIT_NONE, 0, TALLY_POLICY_FAIL);
    fill_up(size);  // what was at hand
    void* result = nullptr;
    errno = 0;
    EXPECT_EQ(malloc(opaque(size)), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(calloc(opaque(1), size), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(aligned_alloc(64, size / 64 * 64 + 64), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(posix_memalign(&result, 64, size), ENOMEM);
    errno = 0;
    EXPECT_EQ(realloc(block, 6 * MiB), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(static_cast<char*>(block)[size - 1], 7) << "the block is as before";
    tally_tag_pop();
    void* other = malloc(size);
    EXPECT_NE(other, nullptr) << "other tags do not notice";
    free(other);
  }
}

TEST_F(Limit, NewThrows) {
  tally_tag_push(tag_);
  fill_up(100000);
  EXPECT_THROW(static_cast<void>(::operator new(opaque(100000))), std::bad_alloc);
  EXPECT_THROW(static_cast<void>(::operator new (opaque(100000), std::align_val_t{64})),
               std::bad_alloc);
  EXPECT_EQ(::operator new(opaque(100000), std::nothrow), nullptr);
  std::string message = "the reserve is for what is said about it, which is not short";
  EXPECT_FALSE(message.empty());
  EXPECT_THROW(std::vector<char>(5 * MiB), std::bad_alloc);
  tally_tag_pop();
}

std::vector<void*>* g_to_free;

TEST_F(Limit, TheNewHandlerMayMakeRoom) {
  tally_tag_push(tag_);
  fill_up(100000);
  g_to_free = &blocks_;
  std::set_new_handler([] {
    free(g_to_free->back());
    g_to_free->pop_back();
  });
  size_t before = blocks_.size();
  void* p = ::operator new(opaque(100000));
  std::set_new_handler(nullptr);
  EXPECT_NE(p, nullptr);
  EXPECT_EQ(blocks_.size(), before - 1);
  ::operator delete(p);
  tally_tag_pop();
}

// What the tag is said to hold is what the kernel sees.
TEST_F(Limit, WhatIsHeldIsResident) {
  constexpr uint64_t kLimit = 128 * MiB;
  tally_limit_set(tag_, TALLY_LIMIT_NONE, kLimit, TALLY_POLICY_FAIL);
  tally_trim();
  const size_t before = rss_bytes();
  tally_tag_push(tag_);
  unsigned random = 1;
  for (;;) {
    random = random * 1103515245 + 12345;
    size_t size = 16 + (random >> 16) % 2000;
    void* p = malloc(size);
    if (p == nullptr) break;
    memset(p, 1, size);
    blocks_.push_back(p);
  }
  tally_tag_pop();
  const tally_stats_t stats = stats_of(tag_);
  const size_t vector_bytes = blocks_.size() * sizeof(void*);
  const auto grown = static_cast<double>(rss_bytes() - before);
  EXPECT_NEAR(grown, static_cast<double>(stats.total.footprint_bytes + vector_bytes),
              0.03 * kLimit);
  EXPECT_GE(stats.total.live_bytes * 100, kLimit * 95);
}

TEST_F(Limit, AWaitingThreadGetsWhatAnotherFrees) {
  tally_limit_set(tag_, TALLY_LIMIT_NONE, 8 * MiB, TALLY_POLICY_WAIT(20000));
  void* p = tally_malloc(tag_, 6 * MiB);
  std::atomic<bool> freed{false};
  std::thread other([&] {
    usleep(50000);
    freed.store(true);
    free(p);
  });
  void* q = tally_malloc(tag_, 6 * MiB);
  EXPECT_NE(q, nullptr);
  EXPECT_TRUE(freed.load());
  EXPECT_EQ(stats_of(tag_).waited_count, 1U);
  other.join();
  free(q);
}

TEST_F(Limit, TheProcessHasALimitToo) {
  tally_trim();
  const uint64_t now = stats_of(TALLY_TAG_ROOT).total.footprint_bytes;
  ASSERT_EQ(tally_limit_set(TALLY_TAG_ROOT, TALLY_LIMIT_NONE, now + 4 * MiB, TALLY_POLICY_FAIL), 0);
  tally_limit_set(tag_, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL);
  EXPECT_EQ(tally_malloc(tag_, opaque(6 * MiB)), nullptr);
  while (void* p = tally_malloc(tag_, 10000)) blocks_.push_back(p);
  EXPECT_LE(stats_of(TALLY_TAG_ROOT).total.footprint_bytes, now + 4 * MiB);
  EXPECT_EQ(tally_pressure(tag_), TALLY_PRESSURE_HARD);
  ASSERT_EQ(tally_limit_set(TALLY_TAG_ROOT, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL),
            0);
}

}  // namespace
