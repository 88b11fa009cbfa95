#include "heap/free.h"

#include <errno.h>
#include <stdio.h>

#include <string>

#include "base/math.h"
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

// What a delete claims is looked at in builds with checks alone.
TEST(Free, SizesAndAlignmentsThatAreWrongAreTold) {
  KeepOptions keep;
  options.abort_on_corruption = false;
  const tally_tag tag = make_tag("/unit/free/sized");
  auto said = [](const void* p, size_t n, size_t alignment, bool exact) {
    testing::internal::CaptureStderr();
    check_sized(p, n, alignment, exact);
    return testing::internal::GetCapturedStderr();
  };
  auto told = [](const char* what, const void* p, const std::string& rest) {
    char text[200];
    snprintf(text, sizeof text, "tally: %s delete of %p", what, p);
    return kChecksSizes ? text + rest + "\n" : std::string();
  };
  void* small = tally_malloc(tag, 40);
  const std::string in_small = " (tag /unit/free/sized, size class 48)";
  for (size_t n = 33; n <= 48; ++n) EXPECT_EQ(said(small, n, 1, true), "");
  EXPECT_EQ(said(small, 32, 1, true),
            told("sized", small, " as 32 bytes, and it has 48" + in_small));
  EXPECT_EQ(said(small, 32, 1, false), "") << "of another operator new";
  EXPECT_EQ(said(small, 49, 1, false),
            told("sized", small, " as 49 bytes, and it has 48" + in_small));
  EXPECT_EQ(said(small, 40, 4096, true),
            told("aligned", small, ", which is not aligned to 4096" + in_small));
  void* aligned = tally_aligned_alloc(tag, 256, 40);
  EXPECT_EQ(said(aligned, 40, 256, true), "") << "of a wider class";
  void* large = tally_malloc(tag, 300000);
  const size_t has = round_up(300000, os::page_size());
  EXPECT_EQ(said(large, 300000, 1, true), "");
  EXPECT_EQ(said(large, 200000, 1, true),
            told("sized", large,
                 " as 200000 bytes, and it has " + std::to_string(has) +
                     " (tag /unit/free/sized, large block)"));
  int local;
  EXPECT_EQ(said(nullptr, 7, 64, true), "");
  EXPECT_EQ(said(&local, 7, 64, true), "") << "free will tell";
  for (void* p : {small, aligned, large}) release_block(p);
}

}  // namespace
}  // namespace tally::unit
