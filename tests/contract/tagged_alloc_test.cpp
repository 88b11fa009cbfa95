// tally_malloc and its family: blocks of a named tag, whatever scope is open.
#include <gtest/gtest.h>

#include <cstdint>
#include <thread>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

const std::vector<size_t> kSizes = {0, 1, 16, 100, 1000, 5000, 40000, 300000, 3000000, 30000000};

TEST(TallyMalloc, CarriesTheNamedTagWhateverScopeIsOpen) {
  const tally_tag named = tally_tag_create("/named"), scope = tally_tag_create("/scope_around");
  tally_tag_push(scope);
  for (size_t size : kSizes) {
    errno = 7777;
    void* blocks[] = {tally_malloc(named, size), tally_calloc(named, 1, size),
                      tally_aligned_alloc(named, 128, size), tally_realloc(named, nullptr, size)};
    for (void* p : blocks) {
      ASSERT_NE(p, nullptr) << size;
      EXPECT_EQ(tally_tag_of(p), named);
      EXPECT_GE(tally_usable_size(p), size);
      fill(p, size, 1);
    }
    EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks[2]) % 128, 0u);
    EXPECT_EQ(stats_of(named).own.live_blocks, 4u);
    tally_free(blocks[0]);
    free(blocks[1]);
    tally_free(blocks[2]);
    free(blocks[3]);
    EXPECT_EQ(errno, 7777);
    EXPECT_EQ(stats_of(named).own.live_blocks, 0u);
  }
  tally_tag_pop();
  EXPECT_EQ(stats_of(scope).own.alloc_count, 0u);
}

TEST(TallyMalloc, RefusesTagsThatAreNone) {
  for (tally_tag bad : {TALLY_TAG_NONE, tally_tag{65000}, tally_tag{1u << 30}}) {
    errno = 0;
    EXPECT_EQ(tally_malloc(bad, 10), nullptr);
    EXPECT_EQ(errno, EINVAL);
    errno = 0;
    EXPECT_EQ(tally_calloc(bad, 1, 10), nullptr);
    EXPECT_EQ(errno, EINVAL);
    errno = 0;
    EXPECT_EQ(tally_aligned_alloc(bad, 16, 10), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
}

TEST(TallyMalloc, RefusesImpossibleSizes) {
  const tally_tag tag = tally_tag_create("/impossible");
  void* old = tally_malloc(tag, 100);
  fill(old, 100, 1);
  for (size_t size :
       {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX / 2 + 1, size_t{PTRDIFF_MAX}, size_t{1} << 50}) {
    void* (*calls[])(tally_tag, void*, size_t) = {
        [](tally_tag t, void*, size_t n) { return tally_malloc(t, n); },
        [](tally_tag t, void*, size_t n) { return tally_calloc(t, 1, n); },
        [](tally_tag t, void*, size_t n) { return tally_calloc(t, n, 3); },
        [](tally_tag t, void*, size_t n) { return tally_aligned_alloc(t, 64, n); },
        [](tally_tag t, void* p, size_t n) { return tally_realloc(t, p, n); },
        [](tally_tag, void* p, size_t n) { return tally_realloc(TALLY_TAG_NONE, p, n); }};
    for (auto call : calls) {
      errno = 0;
      EXPECT_EQ(call(tag, old, opaque(size)), nullptr) << size;
      EXPECT_EQ(errno, ENOMEM) << size;
    }
  }
  EXPECT_TRUE(is_filled(old, 100, 1));
  EXPECT_EQ(stats_of(tag).own.live_blocks, 1u);
  tally_free(old);
  EXPECT_EQ(stats_of(tag).own.alloc_count, 1u) << "refusals are no allocations";
  EXPECT_EQ(stats_of(tag).own.requested_bytes, 100u);
}

TEST(TallyAlignedAlloc, RefusesAlignmentsThatAreNoPowerOfTwo) {
  const tally_tag tag = tally_tag_create("/alignments");
  for (size_t alignment : {0ul, 3ul, 24ul, 100ul, SIZE_MAX}) {
    errno = 0;
    EXPECT_EQ(tally_aligned_alloc(tag, opaque(alignment), 64), nullptr) << alignment;
    EXPECT_EQ(errno, EINVAL) << alignment;
  }
  for (size_t alignment = 1; alignment <= size_t{1} << 30; alignment *= 2) {
    void* p = tally_aligned_alloc(tag, alignment, 100);
    ASSERT_NE(p, nullptr) << alignment;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
    EXPECT_EQ(tally_tag_of(p), tag);
    tally_free(p);
  }
}

TEST(TallyCalloc, IsZero) {
  const tally_tag tag = tally_tag_create("/zero");
  for (size_t size : kSizes) {
    void* dirty = tally_malloc(tag, size);
    memset(dirty, 0xee, size);
    tally_free(dirty);
    auto* p = static_cast<unsigned char*>(tally_calloc(tag, 1, size));
    ASSERT_NE(p, nullptr);
    size_t wrong = 0;
    for (size_t i = 0; i < size; i++) wrong += p[i] != 0;
    EXPECT_EQ(wrong, 0u) << size;
    tally_free(p);
  }
}

// Through every way that realloc can take, under somebody else's scope.
TEST(Realloc, KeepsTheBlocksTag) {
  const tally_tag mine = tally_tag_create("/keeps"), other = tally_tag_create("/keeps_other");
  tally_tag_push(other);
  for (size_t from : kSizes) {
    for (size_t to : kSizes) {
      if (to == 0) continue;
      void* p = tally_malloc(mine, from);
      fill(p, from, 2);
      p = realloc(p, to);
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(tally_tag_of(p), mine) << from << " -> " << to;
      p = tally_realloc(TALLY_TAG_NONE, p, from + 1);
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(tally_tag_of(p), mine) << to << " -> " << from;
      EXPECT_TRUE(is_filled(p, from, 2, std::min(from, to)));
      EXPECT_EQ(stats_of(mine).own.live_blocks, 1u);
      EXPECT_EQ(stats_of(mine).own.live_bytes, counted_bytes(p));
      free(p);
    }
  }
  tally_tag_pop();
  EXPECT_EQ(stats_of(mine).own.live_bytes, 0u);
  EXPECT_EQ(stats_of(other).own.alloc_count, 0u);
}

TEST(TallyRealloc, MovesABlockToAnotherTag) {
  const tally_tag a = tally_tag_create("/moves/a"), b = tally_tag_create("/moves/b");
  for (size_t from : kSizes) {
    for (size_t to : {from, from / 2 + 1, from * 2 + 1}) {
      if (to == 0) continue;
      void* p = tally_malloc(a, from);
      ASSERT_NE(p, nullptr);
      fill(p, from, 3);
      p = tally_realloc(b, p, to);
      ASSERT_NE(p, nullptr);
      EXPECT_EQ(tally_tag_of(p), b) << from << " -> " << to;
      EXPECT_TRUE(is_filled(p, from, 3, to)) << from << " -> " << to;
      EXPECT_EQ(stats_of(a).own.live_bytes, 0u) << from << " -> " << to;
      EXPECT_EQ(stats_of(b).own.live_bytes, counted_bytes(p)) << from << " -> " << to;
      EXPECT_EQ(stats_of(b).own.live_blocks, 1u);
      tally_free(p);
      EXPECT_EQ(stats_of(b).own.live_bytes, 0u);
    }
  }
}

TEST(TallyRealloc, OfNullAndToZero) {
  const tally_tag tag = tally_tag_create("/realloc_edges");
  void* p = tally_realloc(tag, nullptr, 100);
  EXPECT_EQ(tally_tag_of(p), tag);
  EXPECT_EQ(tally_realloc(tag, p, opaque(0)), nullptr);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
  tally_tag_push(tag);
  p = tally_realloc(TALLY_TAG_NONE, nullptr, 100);
  tally_tag_pop();
  EXPECT_EQ(tally_tag_of(p), tag) << "the thread's tag";
  EXPECT_EQ(tally_realloc(TALLY_TAG_NONE, p, opaque(0)), nullptr);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
}

TEST(TallyRealloc, RefusalLeavesTheBlockAsItWas) {
  const tally_tag tag = tally_tag_create("/realloc_refused");
  void* p = tally_malloc(tag, 1000);
  fill(p, 1000, 4);
  errno = 0;
  EXPECT_EQ(tally_realloc(65000, p, 2000), nullptr);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tally_realloc(TALLY_TAG_ROOT, p, opaque(SIZE_MAX)), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(tally_tag_of(p), tag);
  EXPECT_TRUE(is_filled(p, 1000, 4));
  tally_free(p);
}

TEST(TallyFree, IsChargedToTheBlocksTagFromAnyThreadAndScope) {
  const tally_tag mine = tally_tag_create("/freed/mine"), other = tally_tag_create("/freed/other");
  std::vector<void*> blocks;
  for (int i = 0; i < 5000; i++) blocks.push_back(tally_malloc(mine, 10 + i % 3000));
  for (size_t size : {100000ul, 2000000ul}) blocks.push_back(tally_malloc(mine, size));
  const tally_stats_t before = stats_of(mine);
  EXPECT_EQ(before.own.live_blocks, blocks.size());
  std::thread([&] {
    tally_tag_push(other);
    for (size_t i = 0; i < blocks.size(); i += 2) free(blocks[i]);
    tally_tag_pop();
  }).join();
  tally_tag_push(other);
  for (size_t i = 1; i < blocks.size(); i += 2) tally_free(blocks[i]);
  tally_tag_pop();
  const tally_stats_t after = stats_of(mine);
  EXPECT_EQ(after.own.live_blocks, 0u);
  EXPECT_EQ(after.own.live_bytes, 0u);
  EXPECT_EQ(after.own.alloc_count, before.own.alloc_count);
  EXPECT_EQ(after.own.free_count, blocks.size());
  EXPECT_EQ(stats_of(other).own.free_count, 0u);
  EXPECT_EQ(stats_of(other).own.live_bytes, 0u);
}

TEST(TallyFree, NullIsIgnored) {
  errno = 7777;
  tally_free(nullptr);
  EXPECT_EQ(tally_usable_size(nullptr), 0u);
  EXPECT_EQ(errno, 7777);
}

TEST(TallyTrim, GivesBackWhatIsFree) {
  const tally_tag tag = tally_tag_create("/trim");
  std::vector<void*> blocks(20000);
  for (void*& p : blocks) {
    p = tally_malloc(tag, 1000);
    memset(p, 1, 1000);
  }
  const uint64_t held = stats_of(tag).own.footprint_bytes;
  for (void* p : blocks) tally_free(p);
  errno = 7777;
  const int went_back = tally_trim();
  EXPECT_EQ(errno, 7777);
  EXPECT_TRUE(went_back == 0 || went_back == 1);
  EXPECT_LT(stats_of(tag).own.footprint_bytes, held / 10);
}

}  // namespace
