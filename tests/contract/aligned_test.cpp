// posix_memalign, aligned_alloc, memalign, valloc, pvalloc.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

bool is_aligned(const void* p, size_t alignment) {
  return reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

TEST(PosixMemalign, EveryAlignmentToOneGiB) {
  for (size_t alignment = sizeof(void*); alignment <= size_t{1} << 30; alignment *= 2) {
    for (size_t size : {0ul, 1ul, 100ul, 4096ul, 100000ul, 1000000ul}) {
      void* p = nullptr;
      errno = 7777;
      ASSERT_EQ(posix_memalign(&p, alignment, size), 0) << alignment << ' ' << size;
      EXPECT_EQ(errno, 7777);
      ASSERT_TRUE(is_aligned(p, alignment)) << alignment << ' ' << size;
      EXPECT_GE(malloc_usable_size(p), size);
      fill(p, size, 1);
      EXPECT_TRUE(is_filled(p, size, 1));
      free(p);
    }
  }
}

TEST(PosixMemalign, BadAlignmentsAreRefusedAndThePointerLeftAlone) {
  int here = 0;
  for (size_t alignment : {0ul, 1ul, 2ul, 3ul, 4ul, 5ul, 7ul, 12ul, 24ul, 40ul, 100ul, 4095ul,
                           4097ul, SIZE_MAX, SIZE_MAX / 2}) {
    void* p = &here;
    errno = 7777;
    EXPECT_EQ(posix_memalign(&p, opaque(alignment), 64), EINVAL) << alignment;
    EXPECT_EQ(p, &here) << alignment;
    EXPECT_EQ(errno, 7777) << alignment;
  }
}

TEST(PosixMemalign, TooMuchIsRefusedAndThePointerLeftAlone) {
  int here = 0;
  for (size_t alignment : {8ul, 16ul, 4096ul, 1ul << 30}) {
    void* p = &here;
    errno = 0;
    EXPECT_EQ(posix_memalign(&p, alignment, opaque(SIZE_MAX - 64)), ENOMEM) << alignment;
    EXPECT_EQ(errno, ENOMEM) << alignment;  // as glibc leaves it
    EXPECT_EQ(posix_memalign(&p, alignment, opaque(PTRDIFF_MAX)), ENOMEM) << alignment;
    EXPECT_EQ(p, &here);
  }
  void* p = &here;
  EXPECT_EQ(posix_memalign(&p, opaque(size_t{1} << 63), 64), ENOMEM);
  EXPECT_EQ(posix_memalign(&p, opaque(size_t{1} << 62), opaque(size_t{1} << 62)), ENOMEM);
  EXPECT_EQ(p, &here);
}

TEST(AlignedAlloc, EveryAlignmentToOneGiB) {
  for (size_t alignment = 1; alignment <= size_t{1} << 30; alignment *= 2) {
    errno = 7777;
    void* p = aligned_alloc(alignment, 3 * alignment);
    ASSERT_NE(p, nullptr) << alignment;
    EXPECT_EQ(errno, 7777);
    EXPECT_TRUE(is_aligned(p, alignment)) << alignment;
    EXPECT_TRUE(is_aligned(p, 16)) << alignment;
    memset(p, 1, 1);
    free(p);
  }
}

TEST(AlignedAlloc, SizesThatAreNoMultiple) {
  for (size_t alignment : {32ul, 64ul, 512ul, 4096ul, 65536ul}) {
    for (size_t size : {0ul, 1ul, 33ul, 63ul, 65ul, 1000ul, 5000ul, 70000ul}) {
      void* p = aligned_alloc(alignment, size);
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(is_aligned(p, alignment));
      fill(p, size, 2);
      EXPECT_TRUE(is_filled(p, size, 2));
      free(p);
    }
  }
}

// C17 leaves it open: refused with EINVAL as newer glibc does, or rounded up as glibc 2.36 does.
TEST(AlignedAlloc, OddAlignmentIsRefusedOrRoundedUp) {
  for (size_t alignment : {3ul, 24ul, 100ul, 5000ul}) {
    errno = 0;
    void* p = aligned_alloc(opaque(alignment), 100);
    if (p == nullptr) {
      EXPECT_EQ(errno, EINVAL);
    } else {
      size_t power = 1;
      while (power < alignment) power *= 2;
      EXPECT_TRUE(is_aligned(p, power));
    }
    free(p);
  }
}

TEST(Memalign, OddAlignmentIsRoundedUpAsGlibcDoes) {
  const std::vector<std::pair<size_t, size_t>> rounded = {
      {0, 16},  {1, 16},    {3, 16},      {17, 32},       {24, 32},
      {48, 64}, {100, 128}, {4097, 8192}, {70000, 131072}};
  for (auto [asked, given] : rounded) {
    std::vector<void*> blocks;
    for (int i = 0; i < 20; i++) {
      void* p = memalign(opaque(asked), 50);
      ASSERT_NE(p, nullptr) << asked;
      EXPECT_TRUE(is_aligned(p, given)) << asked;
      fill(p, 50, i);
      blocks.push_back(p);
    }
    for (int i = 0; i < 20; i++) {
      EXPECT_TRUE(is_filled(blocks[i], 50, i));
      free(blocks[i]);
    }
  }
}

TEST(Memalign, TheHighestPowerOfTwoIsTooMuchAndNotWrong) {
  errno = 0;
  EXPECT_EQ(memalign(opaque(size_t{1} << 63), 16), nullptr);
  EXPECT_EQ(errno, ENOMEM);
}

TEST(Memalign, AlignmentThatNoPowerOfTwoReachesIsRefused) {
  errno = 0;
  EXPECT_EQ(memalign(opaque((size_t{1} << 63) + 1), 16), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

TEST(Valloc, GivesWholePages) {
  for (size_t size : {0ul, 1ul, 4095ul, 4096ul, 4097ul, 100000ul}) {
    void* p = valloc(size);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(is_aligned(p, kPage));
    EXPECT_GE(malloc_usable_size(p), size);
    fill(p, size, 1);
    free(p);
  }
}

TEST(Pvalloc, RoundsTheSizeUpToWholePages) {
  for (size_t size : {1ul, 4095ul, 4096ul, 4097ul, 100000ul}) {
    void* p = pvalloc(size);
    ASSERT_NE(p, nullptr);
    EXPECT_TRUE(is_aligned(p, kPage));
    const size_t whole = (size + kPage - 1) / kPage * kPage;
    EXPECT_GE(malloc_usable_size(p), whole);
    memset(p, 1, whole);
    free(p);
  }
  void* p = pvalloc(opaque(0));
  EXPECT_TRUE(p != nullptr && is_aligned(p, kPage));
  free(p);
}

TEST(Aligned, ManyLiveAtOnceAreApart) {
  struct Block {
    void* p;
    size_t size;
  };
  std::vector<Block> blocks;
  Random random(1);
  for (uint32_t i = 0; i < 3000; i++) {
    const size_t alignment = size_t{16} << random.below(12);
    const size_t size = random.below(6000);
    void* p = aligned_alloc(alignment, size);
    ASSERT_NE(p, nullptr);
    ASSERT_TRUE(is_aligned(p, alignment));
    fill(p, size, i);
    blocks.push_back({p, size});
  }
  for (uint32_t i = 0; i < blocks.size(); i++) {
    ASSERT_TRUE(is_filled(blocks[i].p, blocks[i].size, i));
    free(blocks[i].p);
  }
}

TEST(Aligned, ReallocOfAnAlignedBlockKeepsItsContent) {
  for (size_t alignment : {64ul, 4096ul, 1ul << 20}) {
    for (size_t to : {10ul, 500ul, 9000ul, 300000ul, 9000000ul}) {
      void* p = aligned_alloc(alignment, 5000);
      ASSERT_NE(p, nullptr);
      fill(p, 5000, 3);
      p = realloc(p, to);
      ASSERT_NE(p, nullptr);
      EXPECT_TRUE(is_filled(p, 5000, 3, to)) << alignment << ' ' << to;
      free(p);
    }
  }
}

}  // namespace
