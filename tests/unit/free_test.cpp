#include "heap/free.h"

#include <errno.h>

#include "heap/allocate.h"
#include "unit.h"

namespace tally::unit {
namespace {

using namespace core;

TEST(Free, FindsTheBlockThatStartsThereAndNoOther) {
  for (size_t n : {size_t{48}, size_t{20000}, size_t{200000}, size_t{3000000}}) {
    auto* p = static_cast<char*>(allocate(n));
    EXPECT_EQ(find_block(p), slab_of(p));
    EXPECT_EQ(find_block(p + 1), nullptr);
    EXPECT_EQ(find_block(p + 8), nullptr);
    EXPECT_EQ(find_block(p + n - 1), nullptr);
    release_block(p);
  }
  int local = 0;
  static int global;
  EXPECT_EQ(find_block(nullptr), nullptr);
  EXPECT_EQ(find_block(&local), nullptr);
  EXPECT_EQ(find_block(&global), nullptr);
  EXPECT_EQ(find_block(reinterpret_cast<void*>(UINTPTR_MAX)), nullptr);
}

// As when a slab turns into a large block while somebody asks about a pointer that is not his.
TEST(Free, ALargeBlockHasNoSmallOnes) {
  auto* p = static_cast<char*>(allocate(300000));
  EXPECT_FALSE(slab_of(p)->is_block(p));
  EXPECT_FALSE(slab_of(p)->is_block(p + 64));
  release_block(p);
}

TEST(Free, BlocksNeverHandedOutAreNone) {
  auto* p = static_cast<char*>(tally_malloc(make_tag("/unit/free/never"), 1024));
  const Slab* slab = slab_of(p);
  EXPECT_EQ(find_block(slab->block_at(slab->carved.load())), nullptr);
  EXPECT_EQ(find_block(slab->block_at(slab->capacity - 1)), nullptr);
  release_block(p);
}

TEST(Free, UsableSizeIsTheClassOrThePages) {
  for (size_t n : {size_t{1}, size_t{100}, size_t{5000}, kMediumMax}) {
    void* p = allocate(n);
    EXPECT_EQ(usable_size(find_block(p), p), class_size(class_of(n)));
    release_block(p);
  }
  void* p = allocate(kMediumMax + 1);
  EXPECT_EQ(usable_size(find_block(p), p), round_up(kMediumMax + 1, os::page_size()));
  release_block(p);
}

TEST(Free, NullptrIsIgnoredAndErrnoKept) {
  errno = 77;
  release_block(nullptr);
  void* blocks[] = {allocate(16), allocate(30000), allocate(300000), allocate(5000000)};
  for (void* p : blocks) release_block(p);
  on_thread([] { release_block(nullptr); });
  EXPECT_EQ(errno, 77);
}

TEST(Free, AThreadThatNeverAllocatedMayFree) {
  void* blocks[] = {allocate(16), allocate(30000), allocate(300000), allocate(5000000)};
  uint64_t live = own(kRootTag).live_blocks;
  on_thread([&] {
    for (void* p : blocks) release_block(p);
  });
  EXPECT_EQ(own(kRootTag).live_blocks, live - 4);
}

}  // namespace
}  // namespace tally::unit
