// The counters at rest: exact to the byte against an independent oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "blocks.hpp"
#include "oracle.hpp"
#include "tally_test.h"

namespace {

constexpr size_t kMiB = 1 << 20;

TEST(Stats, ANewTagIsAllZero) {
  const tally_tag tag = tally_tag_create("/fresh");
  const tally_stats_t s = stats_of(tag);
  EXPECT_EQ(s.size, sizeof s);
  EXPECT_EQ(s.version, uint32_t{TALLY_STATS_VERSION});
  EXPECT_EQ(s.id, tag);
  EXPECT_EQ(s.parent, TALLY_TAG_ROOT);
  EXPECT_EQ(s.retired, 0u);
  EXPECT_STREQ(s.name, "/fresh");
  for (const tally_counts& c : {s.own, s.total}) {
    EXPECT_EQ(c.live_bytes, 0u);
    EXPECT_EQ(c.live_blocks, 0u);
    EXPECT_EQ(c.footprint_bytes, 0u);
    EXPECT_EQ(c.peak_footprint_bytes, 0u);
    EXPECT_EQ(c.alloc_count, 0u);
    EXPECT_EQ(c.free_count, 0u);
    EXPECT_EQ(c.requested_bytes, 0u);
    EXPECT_EQ(c.large_live_bytes, 0u);
    EXPECT_EQ(c.large_live_blocks, 0u);
  }
}

TEST(Stats, RefusesBadArguments) {
  tally_stats_t s = {};
  s.size = sizeof s;
  errno = 0;
  EXPECT_EQ(tally_stats(65000, &s), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tally_stats(TALLY_TAG_NONE, &s), -1);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  EXPECT_EQ(tally_stats(TALLY_TAG_ROOT, nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  for (uint32_t size : {0u, 1u, 4u}) {
    s.size = size;
    errno = 0;
    EXPECT_EQ(tally_stats(TALLY_TAG_ROOT, &s), -1) << size;
    EXPECT_EQ(errno, EINVAL) << size;
  }
}

TEST(Stats, AShorterStructOfAnOlderProgramIsNotOverrun) {
  const tally_tag tag = tally_tag_create("/older");
  void* p = tally_malloc(tag, 100);
  tally_stats_t s;
  memset(&s, 0x5a, sizeof s);
  s.size = offsetof(tally_stats_t, total);
  errno = 7777;
  ASSERT_EQ(tally_stats(tag, &s), 0);
  EXPECT_EQ(errno, 7777);
  EXPECT_EQ(s.own.live_blocks, 1u);
  const auto* rest = reinterpret_cast<unsigned char*>(&s.total);
  const size_t bytes = sizeof s - offsetof(tally_stats_t, total);
  EXPECT_EQ(std::count(rest, rest + bytes, 0x5a), static_cast<ptrdiff_t>(bytes));
  free(p);
}

TEST(Stats, ALongerStructOfANewerProgramIsFilledAsFarAsKnown) {
  struct {
    tally_stats_t known;
    uint64_t unknown[4];
  } s;
  memset(&s, 0, sizeof s);
  s.known.size = sizeof s;
  ASSERT_EQ(tally_stats(TALLY_TAG_ROOT, &s.known), 0);
  EXPECT_GT(s.known.own.alloc_count, 0u);
  EXPECT_STREQ(s.known.name, "/");
}

TEST(Stats, EverySizeIsCountedToTheByte) {
  const tally_tag tag = tally_tag_create("/every_size");
  Oracle oracle;
  std::vector<void*> blocks;
  for (size_t size : sizes_to(4 * kMiB)) {
    blocks.push_back(oracle.allocated(tally_malloc(tag, size), size));
    const tally_counts now = stats_of(tag).own;
    ASSERT_EQ(now.live_bytes, oracle.live) << size;
    ASSERT_EQ(now.live_blocks, oracle.allocs) << size;
    ASSERT_EQ(now.requested_bytes, oracle.requested) << size;
  }
  oracle.expect_matches(stats_of(tag).own);
  expect_sane_at_rest(stats_of(tag).own);
  for (void* p : blocks) {
    free(oracle.freeing(p));
    ASSERT_EQ(stats_of(tag).own.live_bytes, oracle.live);
  }
  oracle.expect_matches(stats_of(tag).own);
  EXPECT_EQ(stats_of(tag).own.live_bytes, 0u);
}

TEST(Stats, EveryMemberOfTheFamilyIsCounted) {
  const tally_tag tag = tally_tag_create("/family");
  for (size_t size : {24ul, 1000ul, 30000ul, 200000ul, 3000000ul}) {
    const tally_counts before = stats_of(tag).own;
    Oracle oracle;
    tally_tag_push(tag);
    void* posix = nullptr;
    ASSERT_EQ(posix_memalign(&posix, 64, size), 0);
    void* blocks[] = {
        oracle.allocated(malloc(size), size),
        oracle.allocated(calloc(2, size), 2 * size),
        oracle.allocated(realloc(nullptr, size), size),
        oracle.allocated(reallocarray(nullptr, 3, size), 3 * size),
        oracle.allocated(posix, size),
        oracle.allocated(aligned_alloc(32, size), size),
        oracle.allocated(memalign(8192, size), size),
        oracle.allocated(valloc(size), size),
        oracle.allocated(::operator new(size), size),
        oracle.allocated(::operator new[](size, std::nothrow), size),
        oracle.allocated(::operator new (size, std::align_val_t{256}), size),
    };
    tally_tag_pop();
    oracle.expect_matches(stats_of(tag).own, before);
    for (void* p : blocks) free(oracle.freeing(p));
    oracle.expect_matches(stats_of(tag).own, before);
  }
  EXPECT_EQ(stats_of(tag).own.live_bytes, 0u);
}

TEST(Stats, AlignedBlocksAreCountedByTheirUsableSize) {
  const tally_tag tag = tally_tag_create("/aligned");
  Oracle oracle;
  std::vector<void*> blocks;
  for (size_t alignment = 16; alignment <= 64 * kMiB; alignment *= 2) {
    for (size_t size : {1ul, 100ul, 5000ul, 100000ul}) {
      blocks.push_back(oracle.allocated(tally_aligned_alloc(tag, alignment, size), size));
    }
  }
  oracle.expect_matches(stats_of(tag).own);
  expect_sane_at_rest(stats_of(tag).own);
  for (void* p : blocks) free(oracle.freeing(p));
  oracle.expect_matches(stats_of(tag).own);
}

// How often an in-place realloc counts is Tally's affair; what is live is not.
TEST(Stats, ReallocKeepsTheLiveFiguresExact) {
  const tally_tag tag = tally_tag_create("/realloc");
  Random random(7);
  std::vector<void*> blocks(200);
  for (void*& p : blocks) p = tally_malloc(tag, 1 + random.below(300));
  for (int i = 0; i < 20000; i++) {
    void*& p = blocks[random.below(blocks.size())];
    const uint64_t kind = random.below(100);
    const size_t size =
        1 + (kind < 80 ? random.below(3000) : random.below(kind < 98 ? 100000 : 5 * kMiB));
    p = realloc(p, size);
    ASSERT_NE(p, nullptr);
    if (i % 50 == 0) {
      uint64_t live = 0;
      for (void* each : blocks) live += counted_bytes(each);
      const tally_counts now = stats_of(tag).own;
      ASSERT_EQ(now.live_bytes, live) << i;
      ASSERT_EQ(now.live_blocks, blocks.size()) << i;
      ASSERT_EQ(now.alloc_count - now.free_count, blocks.size()) << i;
      ASSERT_LE(now.live_bytes, now.footprint_bytes);
    }
  }
  for (void* p : blocks) free(p);
  EXPECT_EQ(stats_of(tag).own.live_bytes, 0u);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
}

TEST(Stats, RandomTrafficUnderManyTags) {
  constexpr int kTags = 40;
  tally_tag tags[kTags];
  Oracle oracles[kTags];
  for (int t = 0; t < kTags; t++)
    tags[t] = tally_tag_create(("/many/" + std::to_string(t)).c_str());
  struct Block {
    void* p;
    int tag;
  };
  std::vector<Block> blocks;
  Random random(11);
  for (int i = 0; i < 200000; i++) {
    if (blocks.empty() || random.below(100) < (i < 100000 ? 60 : 45)) {
      const int t = static_cast<int>(random.below(kTags));
      const size_t size = 1 + random.below(random.below(100) < 95   ? 700
                                           : random.below(100) < 90 ? 20000
                                                                    : 400000);
      tally_tag_push(tags[t]);
      void* p = malloc(size);
      tally_tag_pop();
      oracles[t].allocated(p, size);
      blocks.push_back({p, t});
    } else {
      std::swap(blocks[random.below(blocks.size())], blocks.back());
      free(oracles[blocks.back().tag].freeing(blocks.back().p));
      blocks.pop_back();
    }
    if (i % 20000 == 0) {
      for (int t = 0; t < kTags; t++) oracles[t].expect_matches(stats_of(tags[t]).own);
    }
  }
  for (int t = 0; t < kTags; t++) oracles[t].expect_matches(stats_of(tags[t]).own);
  for (const Block& b : blocks) free(oracles[b.tag].freeing(b.p));
  for (int t = 0; t < kTags; t++) {
    oracles[t].expect_matches(stats_of(tags[t]).own);
    expect_sane_at_rest(stats_of(tags[t]).own);
  }
}

TEST(Stats, UntaggedMemoryIsTheRootsExactly) {
  std::vector<void*> blocks(3000);
  Oracle oracle;
  const tally_counts before = stats_of(TALLY_TAG_ROOT).own;
  for (size_t i = 0; i < blocks.size(); i++) blocks[i] = oracle.allocated(malloc(i * 3), i * 3);
  oracle.expect_matches(stats_of(TALLY_TAG_ROOT).own, before);
  for (void* p : blocks) free(oracle.freeing(p));
  oracle.expect_matches(stats_of(TALLY_TAG_ROOT).own, before);
}

TEST(Stats, TotalIsOwnPlusChildren) {
  const char* paths[] = {"/sum", "/sum/a", "/sum/a/x", "/sum/b"};
  std::vector<void*> blocks;
  for (const char* path : paths) {
    for (int i = 0; i < 100; i++)
      blocks.push_back(tally_malloc(tally_tag_create(path), 100 + i * 50));
  }
  blocks.push_back(tally_malloc(tally_tag_find("/sum/a/x"), 2 * kMiB));
  for (int i = 0; i < 400; i += 3) {
    free(blocks[i]);
    blocks[i] = nullptr;
  }
  const auto own = [](const char* path) { return stats_of(tally_tag_find(path)).own; };
  const auto expect_total = [&](const char* path, std::vector<const char*> parts) {
    const tally_counts total = stats_of(tally_tag_find(path)).total;
    tally_counts sum = {};
    for (const char* part : parts) {
      sum.live_bytes += own(part).live_bytes;
      sum.live_blocks += own(part).live_blocks;
      sum.footprint_bytes += own(part).footprint_bytes;
      sum.peak_footprint_bytes += own(part).peak_footprint_bytes;
      sum.alloc_count += own(part).alloc_count;
      sum.free_count += own(part).free_count;
      sum.requested_bytes += own(part).requested_bytes;
      sum.large_live_bytes += own(part).large_live_bytes;
      sum.large_live_blocks += own(part).large_live_blocks;
    }
    EXPECT_EQ(total.live_bytes, sum.live_bytes) << path;
    EXPECT_EQ(total.live_blocks, sum.live_blocks) << path;
    EXPECT_EQ(total.footprint_bytes, sum.footprint_bytes) << path;
    EXPECT_EQ(total.alloc_count, sum.alloc_count) << path;
    EXPECT_EQ(total.free_count, sum.free_count) << path;
    EXPECT_EQ(total.requested_bytes, sum.requested_bytes) << path;
    EXPECT_EQ(total.large_live_bytes, sum.large_live_bytes) << path;
    EXPECT_EQ(total.large_live_blocks, sum.large_live_blocks) << path;
    // The parts need not have had their peaks together.
    EXPECT_GE(total.peak_footprint_bytes, total.footprint_bytes) << path;
    EXPECT_LE(total.peak_footprint_bytes, sum.peak_footprint_bytes) << path;
  };
  expect_total("/sum", {"/sum", "/sum/a", "/sum/a/x", "/sum/b"});
  expect_total("/sum/a", {"/sum/a", "/sum/a/x"});
  expect_total("/sum/b", {"/sum/b"});
  for (void* p : blocks) free(p);
}

// Each large block is charged by itself, so the footprint after each step is every footprint that
// ever was.
TEST(Stats, PeakIsTheHighestFootprintExactly) {
  const tally_tag tag = tally_tag_create("/peak");
  Random random(3);
  std::vector<void*> blocks;
  uint64_t highest = 0, last_peak = 0;
  for (int i = 0; i < 2000; i++) {
    if (blocks.empty() || random.below(2)) {
      blocks.push_back(tally_malloc(tag, kMiB + random.below(8 * kMiB)));
      ASSERT_NE(blocks.back(), nullptr);
    } else {
      std::swap(blocks[random.below(blocks.size())], blocks.back());
      free(blocks.back());
      blocks.pop_back();
    }
    const tally_counts now = stats_of(tag).own;
    highest = std::max(highest, now.footprint_bytes);
    ASSERT_EQ(now.peak_footprint_bytes, highest) << i;
    ASSERT_GE(now.peak_footprint_bytes, last_peak);
    last_peak = now.peak_footprint_bytes;
  }
  for (void* p : blocks) free(p);
  EXPECT_EQ(stats_of(tag).own.peak_footprint_bytes, highest);
}

TEST(Stats, PeakOfSmallBlocksNeverFallsAndBoundsTheFootprint) {
  const tally_tag tag = tally_tag_create("/peak_small");
  std::vector<void*> blocks;
  uint64_t last_peak = 0, last_live = 0;
  for (int wave = 0; wave < 5; wave++) {
    for (int i = 0; i < 5000 * (wave + 1); i++) blocks.push_back(tally_malloc(tag, 200));
    last_live = stats_of(tag).own.live_bytes;
    EXPECT_GE(stats_of(tag).own.peak_footprint_bytes, std::max(last_peak, last_live));
    for (void* p : blocks) free(p);
    blocks.clear();
    EXPECT_GE(stats_of(tag).own.peak_footprint_bytes, last_live);
    last_peak = stats_of(tag).own.peak_footprint_bytes;
  }
  EXPECT_LT(last_peak, 2 * last_live) << "a peak far above what was ever live";
}

TEST(Stats, FootprintReturnsWithTheMemory) {
  const tally_tag tag = tally_tag_create("/footprint");
  std::vector<void*> blocks;
  for (int i = 0; i < 20000; i++) blocks.push_back(tally_malloc(tag, 300));
  for (int i = 0; i < 10; i++) blocks.push_back(tally_malloc(tag, kMiB));
  const tally_counts full = stats_of(tag).own;
  EXPECT_GE(full.footprint_bytes, full.live_bytes);
  EXPECT_LT(full.footprint_bytes, full.live_bytes + full.live_bytes / 4 + kMiB)
      << "full slabs hold little else";
  for (void* p : blocks) free(p);
  malloc_trim(0);
  EXPECT_LT(stats_of(tag).own.footprint_bytes, 256 * 1024u);
}

}  // namespace
