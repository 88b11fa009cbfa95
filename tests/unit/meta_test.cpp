#include "memory/meta.h"

#include "base/config.h"
#include "fake_os.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(Meta, GivesZeroedLinesOfTheCache) {
  for (size_t bytes : {1UL, 63UL, 64UL, 65UL, 1000UL, 5000UL, 65536UL, 65537UL, 300000UL}) {
    void* p = meta::allocate(bytes);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(address(p) % kCacheLine, 0U);
    EXPECT_TRUE(is_zero(p, bytes)) << bytes;
    fill(p, bytes, 1);
    meta::release(p, bytes);
    void* again = meta::allocate(bytes);
    EXPECT_TRUE(is_zero(again, bytes)) << bytes << " used before";
    meta::release(again, bytes);
  }
}

TEST(Meta, WhatCameBackIsUsedAgain) {
  void* p = meta::allocate(500);
  void* other = meta::allocate(500);
  EXPECT_NE(p, other);
  meta::release(p, 500);
  EXPECT_EQ(meta::allocate(300), p) << "the same power of two";
  meta::release(p, 300);
  meta::release(other, 500);
}

TEST(Meta, IsCounted) {
  size_t used = meta::used_bytes(), footprint = meta::footprint.now.load();
  void* small = meta::allocate(100);
  EXPECT_EQ(meta::used_bytes(), used + 128);
  void* large = meta::allocate(1000000);
  EXPECT_EQ(meta::used_bytes(), used + 128 + (size_t{1} << 20));
  EXPECT_GE(meta::footprint.now.load(), footprint + (size_t{1} << 20));
  EXPECT_GE(meta::footprint.peak.load(), meta::footprint.now.load());
  meta::release(large, 1000000);
  meta::release(small, 100);
  EXPECT_EQ(meta::used_bytes(), used);
  EXPECT_LE(meta::footprint.now.load(), footprint + os::page_size());
  EXPECT_GE(meta::footprint.now.load(), meta::used_bytes());
}

TEST(Meta, TheFootprintIsWholePagesAndNeverLessThanWhatIsUsed) {
  Random random(3);
  std::vector<std::pair<void*, size_t>> held;
  for (int i = 0; i < 3000; ++i) {
    if (held.empty() || random.below(3) != 0) {
      size_t bytes = 1 + random.below(random.below(8) == 0 ? 200000 : 3000);
      void* p = meta::allocate(bytes);
      ASSERT_NE(p, nullptr);
      held.emplace_back(p, bytes);
    } else {
      size_t which = random.below(held.size());
      meta::release(held[which].first, held[which].second);
      held[which] = held.back();
      held.pop_back();
    }
    ASSERT_GE(meta::footprint.now.load(), meta::used_bytes());
    ASSERT_EQ(meta::footprint.now.load() % os::page_size(), 0U);
  }
  for (auto [p, bytes] : held) meta::release(p, bytes);
}

TEST(Meta, WithoutMemoryItSaysSo) {
  size_t used = meta::used_bytes();
  fake_os::Failing no_maps(fake_os::kMap);
  EXPECT_EQ(meta::allocate(300000), nullptr);
  int taken = 0;
  while (meta::allocate_forever(32768) != nullptr)
    ASSERT_LT(++taken, 10) << "the region has an end";
  EXPECT_EQ(meta::used_bytes(), used + static_cast<size_t>(taken) * 32768);
  fake_os::fail_none();
  EXPECT_NE(meta::allocate_forever(32768), nullptr);
}

struct Thing {
  Thing* pool_next;
  uint64_t value[9];
};

TEST(Meta, APoolGivesTheLastFirstAsItWasLeft) {
  static constinit meta::Pool<Thing> pool;
  Thing* a = pool.take();
  Thing* b = pool.take();
  ASSERT_NE(a, b);
  EXPECT_TRUE(is_zero(a, sizeof *a));
  a->value[3] = 7;
  pool.give(a);
  pool.give(b);
  EXPECT_EQ(pool.take(), b);
  EXPECT_EQ(pool.take(), a);
  EXPECT_EQ(a->value[3], 7U);
}

size_t mapped_bytes() {
  size_t bytes = 0;
  meta::for_each_mapping(
      [&](const char* start, const char* end) { bytes += static_cast<size_t>(end - start); });
  return bytes;
}
bool is_mapped(const void* p) {
  bool found = false;
  meta::for_each_mapping(
      [&](const char* start, const char* end) { found = found || (start <= p && p < end); });
  return found;
}

TEST(Meta, KnowsWhereItLies) {
  void* small = meta::allocate(100);
  EXPECT_TRUE(is_mapped(small));
  const size_t before = mapped_bytes();
  char* large = static_cast<char*>(meta::allocate(MiB));
  char* own = static_cast<char*>(meta::map(MiB));
  EXPECT_TRUE(is_mapped(large) && is_mapped(large + MiB - 1));
  EXPECT_TRUE(is_mapped(own) && is_mapped(own + MiB - 1));
  EXPECT_EQ(mapped_bytes(), before + 2 * MiB);
  meta::release(large, MiB);
  EXPECT_FALSE(is_mapped(large));
  EXPECT_TRUE(is_mapped(own));
  // From the middle of one, and its ends.
  meta::unmap(own + MiB / 4, MiB / 2);
  EXPECT_TRUE(is_mapped(own) && is_mapped(own + MiB - 1));
  EXPECT_FALSE(is_mapped(own + MiB / 2));
  EXPECT_EQ(mapped_bytes(), before + MiB / 2);
  meta::unmap(own, MiB / 4);
  meta::unmap(own + MiB * 3 / 4, MiB / 4);
  EXPECT_EQ(mapped_bytes(), before);
  meta::release(small, 100);
}

TEST(Meta, ManyThreads) {
  size_t used = meta::used_bytes();
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      Random random(t);
      for (int i = 0; i < 2000; ++i) {
        size_t bytes = 1 + random.below(2000);
        void* p = meta::allocate(bytes);
        ASSERT_NE(p, nullptr);
        ASSERT_TRUE(is_zero(p, bytes));
        fill(p, bytes, t);
        ASSERT_TRUE(is_filled(p, bytes, t));
        meta::release(p, bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(meta::used_bytes(), used);
}

}  // namespace
}  // namespace tally::unit
