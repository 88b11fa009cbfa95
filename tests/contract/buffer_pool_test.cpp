// BufferPool: buffers that are used again, within a bound, under a tag.
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>
#include <tally/buffer_pool.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "tally_test.h"

namespace {

using tally::Buffer;
using tally::BufferPool;
using tally::BufferPoolStats;
using tally::Tag;

static_assert(!std::is_copy_constructible_v<Buffer> && !std::is_copy_assignable_v<Buffer>);
static_assert(std::is_nothrow_move_constructible_v<Buffer>);

uint64_t allocations(Tag tag) { return tag.stats().own.alloc_count; }
uint64_t live(Tag tag) { return tag.stats().own.live_blocks; }

TEST(BufferPool, HandsOutBuffersUnderItsTag) {
  const Tag tag = Tag::create("/buffers/basic");
  {
    BufferPool pool(tag, 1 << 20);
    EXPECT_EQ(pool.tag(), tag);
    EXPECT_EQ(pool.max_kept_bytes(), size_t{1} << 20);
    std::set<std::byte*> seen;
    std::vector<Buffer> buffers;
    for (size_t size : {0, 1, 63, 64, 65, 1000, 4096, 5000, 1 << 20}) {
      Buffer& buffer = buffers.emplace_back(pool.get(size));
      ASSERT_TRUE(buffer);
      EXPECT_EQ(buffer.size(), size);
      EXPECT_GE(buffer.capacity(), size);
      EXPECT_LE(buffer.capacity(), std::max<size_t>(64, 2 * size));
      EXPECT_EQ(buffer.span().size(), size);
      EXPECT_EQ(buffer.span().data(), buffer.data());
      EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % alignof(max_align_t), 0u);
      EXPECT_EQ(Tag::of(buffer.data()), tag);
      memset(buffer.data(), 1, buffer.capacity());
      EXPECT_TRUE(seen.insert(buffer.data()).second);
    }
    EXPECT_EQ(pool.stats().gets, buffers.size());
    EXPECT_EQ(pool.stats().out_buffers, buffers.size());
    EXPECT_EQ(pool.stats().hits, 0u);
  }
  EXPECT_EQ(live(tag), 0u);
  EXPECT_EQ(tag.stats().own.live_bytes, 0u);
}

TEST(BufferPool, UsesAgainWhatCameBackAndCountsWhatThatAvoids) {
  const Tag tag = Tag::create("/buffers/again");
  BufferPool pool(tag, 1 << 20);
  const uint64_t before = allocations(tag);
  for (size_t i = 0; i < 1000; ++i) {
    const Buffer a = pool.get(500 + i % 12), b = pool.get(3000);
  }
  const BufferPoolStats stats = pool.stats();
  EXPECT_EQ(stats.gets, 2000u);
  EXPECT_EQ(stats.hits, 1998u);
  EXPECT_EQ(allocations(tag) - before, stats.gets - stats.hits);
  EXPECT_EQ(stats.kept_buffers, 2u);
  EXPECT_EQ(stats.kept_bytes, 512u + 4096u);
  EXPECT_EQ(stats.out_buffers, 0u);
  EXPECT_EQ(stats.out_bytes, 0u);
}

TEST(BufferPool, HandlesMoveAndGoBackOnce) {
  BufferPool pool(Tag::create("/buffers/moves"), 1 << 20);
  Buffer a = pool.get(100);
  std::byte* const data = a.data();
  Buffer b = std::move(a);
  EXPECT_FALSE(a);
  EXPECT_EQ(a.size(), 0u);
  EXPECT_EQ(a.capacity(), 0u);
  EXPECT_TRUE(a.span().empty());
  EXPECT_EQ(b.data(), data);
  a = pool.get(200);
  EXPECT_EQ(pool.stats().out_buffers, 2u);
  a = std::move(b);
  EXPECT_EQ(a.data(), data);
  EXPECT_EQ(pool.stats().out_buffers, 1u);
  a.reset();
  a.reset();
  EXPECT_FALSE(a);
  EXPECT_EQ(pool.stats().out_buffers, 0u);
  EXPECT_EQ(pool.stats().kept_buffers, 2u);
}

TEST(BufferPool, ABoundOfZeroIsInvalid) {
  EXPECT_THROW(BufferPool(Tag(), 0), std::invalid_argument);
}

TEST(BufferPool, KeepsNoMoreThanItsBound) {
  const Tag tag = Tag::create("/buffers/bound");
  for (size_t bound : {1u, 64u, 1000u, 10000u, 100000u}) {
    SCOPED_TRACE(bound);
    BufferPool pool(tag, bound);
    for (size_t round = 0; round < 3; ++round) {
      std::vector<Buffer> buffers;
      for (size_t size = 0; size < 60000; size += 700) buffers.push_back(pool.get(size));
      while (!buffers.empty()) {
        buffers.pop_back();
        ASSERT_LE(pool.stats().kept_bytes, bound);
      }
    }
    EXPECT_EQ(live(tag), pool.stats().kept_buffers + 1);  // and what the pool itself needs
    EXPECT_EQ(pool.stats().kept_bytes == 0, bound < 64);
  }
  EXPECT_EQ(live(tag), 0u);
}

TEST(BufferPool, WhatIsTooLargeToKeepIsOfTheSizeAskedFor) {
  BufferPool pool(Tag::create("/buffers/large"), 100000);
  const Buffer large = pool.get(70001);
  EXPECT_EQ(large.capacity(), 70001u);
  const Buffer kept = pool.get(60001);
  EXPECT_EQ(kept.capacity(), 65536u);
}

TEST(BufferPool, WhatNobodyAsksForAnyMoreMakesRoom) {
  BufferPool pool(Tag::create("/buffers/phases"), 64 << 10);
  {
    std::vector<Buffer> small;
    for (int i = 0; i < 1024; ++i) small.push_back(pool.get(64));
  }
  EXPECT_EQ(pool.stats().kept_buffers, 1024u);  // full of small ones
  for (int i = 0; i < 100; ++i) pool.get(32 << 10).reset();
  EXPECT_EQ(pool.stats().hits, 99u);
  EXPECT_EQ(pool.stats().kept_bytes, size_t{64} << 10);
  {  // of one size there is nothing older: what is too many is freed
    const Buffer a = pool.get(32 << 10), b = pool.get(32 << 10), c = pool.get(32 << 10);
  }
  EXPECT_EQ(pool.stats().kept_buffers, 2u);
}

TEST(BufferPool, TrimFreesWhatIsKept) {
  const Tag tag = Tag::create("/buffers/trim");
  BufferPool pool(tag, 1 << 20);
  const Buffer out = pool.get(100);
  { const Buffer a = pool.get(1000), b = pool.get(5000); }
  EXPECT_EQ(pool.trim(), 1024u + 8192u);
  EXPECT_EQ(pool.trim(), 0u);
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
  EXPECT_EQ(live(tag), 2u);
}

TEST(BufferPool, NoMemoryIsBadAllocOrAnEmptyBuffer) {
  const Tag tag = Tag::create("/buffers/limited");
  BufferPool pool(tag, 1 << 20);
  ASSERT_TRUE(tag.limit(TALLY_LIMIT_NONE, 2 << 20));
  for (size_t size : {size_t{4} << 20, SIZE_MAX / 2, SIZE_MAX - 10, SIZE_MAX}) {
    errno = 0;
    EXPECT_THROW((void)pool.get(opaque(size)), std::bad_alloc);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_FALSE(pool.try_get(opaque(size)));
    EXPECT_EQ(errno, ENOMEM);
  }
  EXPECT_EQ(pool.stats().gets, 0u);
  ASSERT_TRUE(tag.retire());
  errno = 0;
  EXPECT_FALSE(pool.try_get(100));
  EXPECT_EQ(errno, EINVAL);
  EXPECT_THROW((void)pool.get(100), std::bad_alloc);
  errno = 0;
  EXPECT_THROW(BufferPool(tag, 100), std::bad_alloc);
  EXPECT_EQ(errno, EINVAL);
}

TEST(BufferPool, WhatIsKeptIsFreedBeforeAGetFails) {
  const Tag tag = Tag::create("/buffers/kept");
  ASSERT_TRUE(tag.limit(TALLY_LIMIT_NONE, 8 << 20));
  BufferPool pool(tag, 8 << 20);
  { const Buffer a = pool.get(2 << 20), b = pool.get(2 << 20), c = pool.get(2 << 20); }
  EXPECT_EQ(pool.stats().kept_bytes, size_t{6} << 20);
  EXPECT_TRUE(pool.try_get(4 << 20));
  EXPECT_EQ(pool.stats().kept_buffers, 1u);
}

TEST(BufferPool, WhatNothingCanHaveCostsNothingThatIsKept) {
  BufferPool pool(Tag::create("/buffers/absurd"), 1 << 20);
  pool.get(100000).reset();
  const size_t kept = pool.stats().kept_bytes;
  EXPECT_FALSE(pool.try_get(SIZE_MAX));
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(pool.stats().kept_bytes, kept);
}

TEST(BufferPool, WhatArrivesMayBeLessThanThereIsRoomFor) {
  BufferPool pool(Tag::create("/buffers/resize"), 1 << 20);
  Buffer buffer = pool.get(1000);
  buffer.resize(10);
  EXPECT_EQ(buffer.span().size(), 10u);
  buffer.resize(buffer.capacity());
  EXPECT_EQ(buffer.size(), buffer.capacity());
}

TEST(BufferPool, APressureCallbackMayTrimIt) {
  const Tag tag = Tag::create("/buffers/pressure");
  ASSERT_TRUE(tag.limit(1 << 20, TALLY_LIMIT_NONE));
  BufferPool pool(tag, 64 << 20);
  int calls = 0;
  auto trim = [&](Tag, tally::Pressure level) {
    if (level == tally::Pressure::kSoft) calls += pool.trim() > 0;
  };
  const tally::PressureListener listener(tag, trim);
  { const Buffer a = pool.get(500000); }
  const Buffer b = pool.get(800000);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(pool.stats().kept_bytes, 0u);
}

TEST(BufferPool, BuffersMayOutliveIt) {
  const Tag tag = Tag::create("/buffers/outlive");
  Buffer a, b;
  {
    BufferPool pool(tag, 1 << 20);
    a = pool.get(1000);
    b = pool.get(5000);
    const Buffer kept = pool.get(100);
  }
  EXPECT_EQ(live(tag), 3u);
  memset(a.data(), 1, a.size());
  memset(b.data(), 1, b.size());
  std::thread([c = std::move(a)]() mutable { c.reset(); }).join();
  EXPECT_EQ(live(tag), 2u);
  b.reset();
  EXPECT_EQ(live(tag), 0u);
  EXPECT_EQ(tag.stats().own.live_bytes, 0u);
}

}  // namespace
