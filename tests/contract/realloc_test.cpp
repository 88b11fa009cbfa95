// realloc and reallocarray.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

constexpr size_t kMiB = 1 << 20;
constexpr size_t kGiB = 1 << 30;

TEST(Realloc, OfNullIsMalloc) {
  void* p = realloc(nullptr, 100);
  ASSERT_NE(p, nullptr);
  EXPECT_GE(malloc_usable_size(p), 100u);
  fill(p, 100, 1);
  free(p);
}

TEST(Realloc, ToZeroFreesAndReturnsNull) {
  const tally_tag tag = tally_tag_create("/realloc_zero");
  for (size_t size : {10ul, 1000ul, 100000ul, 5000000ul}) {
    void* p = tally_malloc(tag, size);
    ASSERT_NE(p, nullptr);
    errno = 7777;
    EXPECT_EQ(realloc(p, opaque(0)), nullptr);
    EXPECT_EQ(errno, 7777);
    EXPECT_EQ(stats_of(tag).own.live_blocks, 0u) << size;
  }
}

TEST(Realloc, OfNullToZeroGivesABlock) {
  void* p = realloc(nullptr, opaque(0));
  EXPECT_NE(p, nullptr);
  free(p);
}

// From every kind of size to every other: small, medium, large, huge, up and down.
TEST(Realloc, KeepsTheContentUpToTheSmallerSize) {
  const std::vector<size_t> sizes = {1,     15,       16,       17,        100,      128,
                                     500,   1024,     3000,     8192,      9000,     20000,
                                     32768, 60000,    70000,    131072,    300000,   600000,
                                     kMiB,  3 * kMiB, 5 * kMiB, 17 * kMiB, 40 * kMiB};
  for (size_t from : sizes) {
    for (size_t to : sizes) {
      void* p = malloc(from);
      ASSERT_NE(p, nullptr);
      fill(p, from, 7);
      void* q = realloc(p, to);
      ASSERT_NE(q, nullptr) << from << " -> " << to;
      ASSERT_GE(malloc_usable_size(q), to);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(q) % 16, 0u);
      ASSERT_TRUE(is_filled(q, from, 7, to)) << from << " -> " << to;
      fill(q, to, 8);
      ASSERT_TRUE(is_filled(q, to, 8)) << from << " -> " << to;
      free(q);
    }
  }
}

TEST(Realloc, GrowsByteByByteWithItsContent) {
  unsigned char* p = nullptr;
  for (size_t n = 1; n <= 20000; n++) {
    p = static_cast<unsigned char*>(realloc(p, n));
    ASSERT_NE(p, nullptr);
    p[n - 1] = pattern_byte(9, n - 1);
  }
  size_t wrong = 0;
  for (size_t i = 0; i < 20000; i++) wrong += p[i] != pattern_byte(9, i);
  EXPECT_EQ(wrong, 0u);
  for (size_t n = 20000; n >= 1; n -= 7) {
    p = static_cast<unsigned char*>(realloc(p, n));
    ASSERT_NE(p, nullptr);
    ASSERT_EQ(p[n - 1], pattern_byte(9, n - 1));
    if (n < 8) break;
  }
  free(p);
}

TEST(Realloc, NeighboursAreNotTouchedWhenABlockGrowsInPlace) {
  for (size_t size : {100ul, 5000ul, 40000ul, 200000ul, 5000000ul}) {
    constexpr int kBlocks = 24;
    void* blocks[kBlocks];
    size_t sizes[kBlocks];
    for (int i = 0; i < kBlocks; i++) {
      blocks[i] = malloc(sizes[i] = size);
      ASSERT_NE(blocks[i], nullptr);
      fill(blocks[i], size, i);
    }
    for (int i = 0; i < kBlocks; i += 2) {  // gaps to grow into
      free(blocks[i]);
      blocks[i] = nullptr;
    }
    for (int i = 1; i < kBlocks; i += 2) {
      const size_t to = size + size / 2;
      blocks[i] = realloc(blocks[i], to);
      ASSERT_NE(blocks[i], nullptr);
      ASSERT_TRUE(is_filled(blocks[i], size, i));
      fill(blocks[i], sizes[i] = to, i);
    }
    for (int i = 1; i < kBlocks; i += 2) {
      EXPECT_TRUE(is_filled(blocks[i], sizes[i], i)) << size;
      free(blocks[i]);
    }
  }
}

TEST(Realloc, RefusalLeavesTheBlockIntact) {
  for (size_t size : {50ul, 5000ul, 500000ul, 5000000ul}) {
    void* p = malloc(size);
    ASSERT_NE(p, nullptr);
    fill(p, size, 4);
    for (size_t to : {size_t{PTRDIFF_MAX}, size_t{PTRDIFF_MAX} + 1, SIZE_MAX, size_t{1} << 50}) {
      errno = 0;
      void* q = realloc(p, opaque(to));
      const int error = errno;
      EXPECT_EQ(q, nullptr);
      EXPECT_EQ(error, ENOMEM);
    }
    EXPECT_TRUE(is_filled(p, size, 4)) << size;
    EXPECT_GE(malloc_usable_size(p), size);
    free(p);
  }
}

// mremap moves page tables: growing to 1 GiB must not touch the pages, as a copy would.
TEST(Realloc, GrowsToOneGiBWithoutCopying) {
  auto* p = static_cast<unsigned char*>(malloc(kMiB));
  ASSERT_NE(p, nullptr);
  fill(p, kMiB, 5);
  const size_t before = rss_bytes();
  for (size_t size = 2 * kMiB; size <= kGiB; size *= 2) {
    p = static_cast<unsigned char*>(realloc(p, size));
    ASSERT_NE(p, nullptr) << size;
    ASSERT_TRUE(is_filled(p, kMiB, 5)) << size;
    ASSERT_EQ(size == 2 * kMiB ? 0xee : p[size / 2 - 1], 0xee) << size;
    p[size - 1] = 0xee;
  }
  // The other backends copy.
  if (strcmp(backend_name(), "os") == 0) {
    EXPECT_LT(rss_bytes(), before + 64 * kMiB);
  }
  free(p);
}

TEST(Realloc, FromTwoGiBToFourKiBGivesTheMemoryBack) {
  const size_t before = rss_bytes();
  auto* p = static_cast<unsigned char*>(malloc(2 * kGiB));
  if (p == nullptr) GTEST_SKIP() << "no 2 GiB of address space here";
  memset(p, 1, 256 * kMiB);
  for (size_t i = 256 * kMiB; i < 2 * kGiB; i += 16 * kMiB) p[i] = 1;
  EXPECT_GT(rss_bytes(), before + 256 * kMiB);
  fill(p, 4096, 6);
  p = static_cast<unsigned char*>(realloc(p, 4096));
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(is_filled(p, 4096, 6));
  EXPECT_LT(rss_bytes(), before + 8 * kMiB);
  free(p);
}

TEST(Realloc, ShrinkingALargeBlockGivesItsTailBackToItsTag) {
  const tally_tag tag = tally_tag_create("/realloc_shrink");
  void* p = tally_malloc(tag, 64 * kMiB);
  ASSERT_NE(p, nullptr);
  fill(p, kMiB, 1);
  p = realloc(p, kMiB);
  ASSERT_NE(p, nullptr);
  EXPECT_TRUE(is_filled(p, kMiB, 1, kMiB - 4096));
  EXPECT_EQ(stats_of(tag).own.live_bytes, counted_bytes(p));
  EXPECT_LE(stats_of(tag).own.live_bytes, 2 * kMiB);
  free(p);
  EXPECT_EQ(stats_of(tag).own.live_bytes, 0u);
}

TEST(Reallocarray, MultipliesAndRefusesOverflow) {
  void* p = reallocarray(nullptr, 10, 10);
  ASSERT_NE(p, nullptr);
  fill(p, 100, 2);
  p = reallocarray(p, 100, 100);
  ASSERT_NE(p, nullptr);
  EXPECT_GE(malloc_usable_size(p), 10000u);
  EXPECT_TRUE(is_filled(p, 100, 2));
  for (auto [count, size] : {std::pair<size_t, size_t>{SIZE_MAX, 2},
                             {2, SIZE_MAX},
                             {size_t{1} << 32, size_t{1} << 32},
                             {SIZE_MAX / 16 + 1, 16}}) {
    errno = 0;
    void* q = reallocarray(p, opaque(count), opaque(size));
    const int error = errno;
    EXPECT_EQ(q, nullptr);
    EXPECT_EQ(error, ENOMEM);
    EXPECT_TRUE(is_filled(p, 100, 2));
  }
  free(p);
}

}  // namespace
