#include "heap/allocate.h"

#include <errno.h>
#include <stdint.h>

#include "base/math.h"
#include "fake_os.h"
#include "heap/free.h"
#include "os/os.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(Allocate, AnySizeIsServedAndLongEnough) {
  std::vector<void*> blocks;
  for (size_t n :
       {size_t{0}, size_t{1}, size_t{16}, size_t{17}, kLinearMax, kLinearMax + 1, kSmallMax,
        kSmallMax + 1, kMediumMax, kMediumMax + 1, kRunMax, kRunMax + 1, 10 * MiB}) {
    void* p = allocate(n);
    ASSERT_NE(p, nullptr) << n;
    EXPECT_GE(usable_size(find_block(p), p), n);
    EXPECT_EQ(address(p) % kMinAlignment, 0U);
    EXPECT_EQ(slab_of(p)->what().tag, kRootTag);
    fill(p, n, 1);
    blocks.push_back(p);
  }
  for (void* p : blocks) release_block(p);
}

TEST(Allocate, TooMuchIsRefused) {
  for (size_t n :
       {SIZE_MAX, SIZE_MAX - 1, size_t{PTRDIFF_MAX} + 1, size_t{PTRDIFF_MAX}, size_t{1} << 47}) {
    errno = 0;
    EXPECT_EQ(allocate(n), nullptr) << n;
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(allocate_aligned(nullptr, 64, n, nullptr), nullptr);
    EXPECT_EQ(errno, ENOMEM);
    errno = 0;
    EXPECT_EQ(allocate_zeroed(nullptr, n, nullptr), nullptr);
    EXPECT_EQ(errno, ENOMEM);
  }
  EXPECT_EQ(root_tag()->large_live_bytes.load(), 0U);
}

TEST(Allocate, OfASizeAndAlignment) {
  std::vector<void*> blocks;
  for (size_t alignment = 1; alignment <= 64 * MiB; alignment *= 2) {
    for (size_t n :
         {size_t{0}, size_t{1}, size_t{100}, size_t{4097}, kMediumMax, kMediumMax + 1, 3 * MiB}) {
      void* p = allocate_aligned(nullptr, alignment, n, nullptr);
      ASSERT_NE(p, nullptr) << alignment << " " << n;
      EXPECT_EQ(address(p) & (alignment - 1), 0U);
      EXPECT_GE(usable_size(find_block(p), p), n);
      fill(p, n, 2);
      blocks.push_back(p);
    }
  }
  for (void* p : blocks) release_block(p);
  errno = 0;
  EXPECT_EQ(allocate_aligned(nullptr, size_t{1} << 63, 1, nullptr), nullptr);
  EXPECT_EQ(errno, ENOMEM);
}

TEST(Allocate, AlignedBlocksOfAClassAreAllAligned) {
  std::vector<void*> blocks;
  for (size_t alignment : {size_t{32}, size_t{256}, size_t{4096}}) {
    for (int i = 0; i < 500; ++i) {
      void* p = allocate_aligned(nullptr, alignment, 1 + static_cast<size_t>(i), nullptr);
      ASSERT_EQ(address(p) % alignment, 0U);
      blocks.push_back(p);
    }
  }
  for (void* p : blocks) release_block(p);
}

TEST(Allocate, ZeroedWhateverWasThereBefore) {
  for (int round = 0; round < 3; ++round) {
    for (size_t n : {size_t{0}, size_t{1}, size_t{500}, size_t{9000}, kMediumMax, kMediumMax + 1,
                     kRunMax, 2 * MiB}) {
      void* p = allocate_zeroed(nullptr, n, nullptr);
      ASSERT_NE(p, nullptr);
      ASSERT_TRUE(is_zero(p, n)) << n;
      fill(p, n, 3);
      release_block(p);
    }
  }
}

TEST(Allocate, ATagThatTakesNoBlocksIsRefused) {
  uint32_t retired = make_tag("/unit/allocate/retired");
  tally_tag_retire(retired);
  for (uint32_t tag : {retired, kOwnTag, kNoTag, uint32_t{60000}, tag_limit()}) {
    errno = 0;
    EXPECT_EQ(tally_malloc(tag, 16), nullptr);
    EXPECT_EQ(errno, EINVAL);
  }
}

// As when another thread retires it between the caller's look and ours.
TEST(Allocate, ATagThatWasRetiredMeanwhileGetsNoHeap) {
  uint32_t id = make_tag("/unit/allocate/meanwhile");
  Tag* tag = find_tag(id);
  tally_tag_retire(id);
  errno = 0;
  EXPECT_EQ(allocate_tagged(tag, 16), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(allocate_aligned(tag, 64, 16, nullptr), nullptr);
  EXPECT_EQ(allocate_zeroed(tag, 1 * MiB, nullptr), nullptr);
  EXPECT_EQ(tag->heaps.load(), 0U);
}

TEST(Allocate, BesideABlockOfARetiredTagThereIsMore) {
  uint32_t id = make_tag("/unit/allocate/beside");
  void* p = tally_malloc(id, 100);
  tally_tag_retire(id);
  on_thread([&] {
    void* q = allocate_beside(find_tag(id), 100, false);
    ASSERT_NE(q, nullptr);
    EXPECT_EQ(tally_tag_of(q), id);
    release_block(q);
  });
  release_block(p);
}

TEST(Allocate, ErrnoIsKeptOnSuccess) {
  errno = 1234;
  for (size_t n = 1; n < 3 * MiB; n *= 3) release_block(allocate(n));
  for (size_t n = 1; n < 3 * MiB; n *= 3) release_block(allocate_zeroed(nullptr, n, nullptr));
  release_block(allocate_aligned(nullptr, 32 * MiB, 5, nullptr));
  EXPECT_EQ(errno, 1234);
}

TEST(Allocate, WithoutMemorySaysSoAndGoesOnWhenThereIsSome) {
  uint32_t tag = make_tag("/unit/allocate/none");
  std::vector<void*> blocks;
  {
    fake_os::Failing no_maps(fake_os::kMap);
    for (;;) {
      errno = 0;
      void* p = tally_malloc(tag, 50000);
      if (p == nullptr) break;
      blocks.push_back(p);
      ASSERT_LT(blocks.size(), 10000U);
    }
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(own(tag).live_blocks, blocks.size());
  }
  blocks.push_back(tally_malloc(tag, 50000));
  EXPECT_NE(blocks.back(), nullptr);
  for (void* p : blocks) release_block(p);
  EXPECT_EQ(own(tag).live_blocks, 0U);
}

}  // namespace
}  // namespace tally::unit
