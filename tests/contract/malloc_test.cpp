// malloc, calloc and free.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

constexpr int kErrno = 7777;  // no error's number: whoever changes errno is seen
constexpr size_t kMiB = 1 << 20;

// Requests that no machine can satisfy; those above PTRDIFF_MAX must be refused before any
// arithmetic wraps.
const std::vector<size_t> kImpossible = {SIZE_MAX,
                                         SIZE_MAX - 1,
                                         SIZE_MAX - 7,
                                         SIZE_MAX - 8,
                                         SIZE_MAX - 15,
                                         SIZE_MAX - 16,
                                         SIZE_MAX - 4095,
                                         SIZE_MAX - 65536,
                                         SIZE_MAX - 4 * kMiB,
                                         SIZE_MAX / 2 + 2,
                                         SIZE_MAX / 2 + 1,
                                         PTRDIFF_MAX,
                                         PTRDIFF_MAX - 4 * kMiB,
                                         size_t{1} << 62,
                                         size_t{1} << 48};

TEST(Malloc, EverySizeIsAlignedWritableAndApartFromTheOthers) {
  const auto sizes = sizes_to(4 * kMiB);
  std::vector<void*> blocks;
  for (size_t i = 0; i < sizes.size(); i++) {
    void* p = malloc(sizes[i]);
    ASSERT_NE(p, nullptr) << sizes[i];
    ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % 16, 0u) << sizes[i];
    fill(p, sizes[i], static_cast<uint32_t>(i));
    blocks.push_back(p);
  }
  for (size_t i = 0; i < sizes.size(); i++) {
    ASSERT_TRUE(is_filled(blocks[i], sizes[i], static_cast<uint32_t>(i))) << sizes[i];
    free(blocks[i]);
  }
}

TEST(Malloc, SizesUpTo200MegabytesOneAtATime) {
  for (size_t size = 1000; size <= 200'000'000; size += size / 3) {
    void* p = malloc(size);
    ASSERT_NE(p, nullptr) << size;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % 16, 0u) << size;
    fill(p, size, 1);
    ASSERT_TRUE(is_filled(p, size, 1)) << size;
    free(p);
  }
  void* p = malloc(200'000'000);
  ASSERT_NE(p, nullptr);
  memset(p, 1, 200'000'000);
  free(p);
}

TEST(Malloc, ZeroBytesGiveDistinctBlocks) {
  void* a = malloc(0);
  void* b = malloc(0);
  EXPECT_NE(a, nullptr);
  EXPECT_NE(b, nullptr);
  EXPECT_NE(a, b);
  free(a);
  free(b);
}

TEST(Malloc, KeepsErrnoOnSuccess) {
  for (size_t size : {0ul, 1ul, 100ul, 5000ul, 40000ul, 600000ul, 5000000ul, 70000000ul}) {
    errno = kErrno;
    void* p = malloc(size);
    EXPECT_EQ(errno, kErrno) << size;
    void* q = calloc(1, size);
    EXPECT_EQ(errno, kErrno) << size;
    p = realloc(p, size * 2 + 1);
    EXPECT_EQ(errno, kErrno) << size;
    free(p);
    free(q);
    EXPECT_EQ(errno, kErrno) << size;
  }
}

TEST(Malloc, ImpossibleSizesAreRefusedWithENOMEM) {
  for (size_t size : kImpossible) {
    errno = 0;
    void* p = malloc(opaque(size));
    const int error = errno;
    EXPECT_EQ(p, nullptr) << size;
    EXPECT_EQ(error, ENOMEM) << size;
    free(p);
  }
}

TEST(Malloc, EveryMemberRefusesImpossibleSizesWithENOMEM) {
  void* old = malloc(100);
  for (size_t size : kImpossible) {
    const auto refused = [&](const char* member, void* p, int error) {
      EXPECT_EQ(p, nullptr) << member << ' ' << size;
      EXPECT_EQ(error, ENOMEM) << member << ' ' << size;
    };
#define REFUSED(call)              \
  do {                             \
    errno = 0;                     \
    void* result = call;           \
    const int error = errno;       \
    refused(#call, result, error); \
  } while (0)
    REFUSED(calloc(1, opaque(size)));
    REFUSED(calloc(opaque(size), 1));
    REFUSED(realloc(nullptr, opaque(size)));
    REFUSED(realloc(old, opaque(size)));
    REFUSED(reallocarray(nullptr, opaque(size), 1));
    REFUSED(reallocarray(old, 1, opaque(size)));
    REFUSED(memalign(16, opaque(size)));
    REFUSED(memalign(64, opaque(size)));
    REFUSED(memalign(1 << 22, opaque(size)));
    REFUSED(aligned_alloc(16, opaque(size)));
    REFUSED(aligned_alloc(1 << 16, opaque(size)));
    REFUSED(valloc(opaque(size)));
    REFUSED(pvalloc(opaque(size)));
#undef REFUSED
    void* p = old;
    EXPECT_EQ(posix_memalign(&p, 64, opaque(size)), ENOMEM) << size;
    EXPECT_EQ(p, old) << size;
  }
  free(old);
}

TEST(Malloc, WorksAfterARefusal) {
  EXPECT_EQ(malloc(opaque(PTRDIFF_MAX)), nullptr);
  void* p = malloc(100);
  ASSERT_NE(p, nullptr);
  fill(p, 100, 1);
  free(p);
}

TEST(Calloc, ProductThatOverflowsIsRefused) {
  const std::vector<std::pair<size_t, size_t>> products = {{SIZE_MAX, 2},
                                                           {2, SIZE_MAX},
                                                           {size_t{1} << 32, size_t{1} << 32},
                                                           {(size_t{1} << 32) + 1, size_t{1} << 32},
                                                           {SIZE_MAX / 16 + 1, 16},
                                                           {SIZE_MAX / 3 + 1, 3},
                                                           {size_t{1} << 63, 2}};
  for (auto [count, size] : products) {
    errno = 0;
    void* p = calloc(opaque(count), opaque(size));
    const int error = errno;
    EXPECT_EQ(p, nullptr) << count << " * " << size;
    EXPECT_EQ(error, ENOMEM) << count << " * " << size;
    free(p);
  }
}

TEST(Calloc, ZeroCountsGiveBlocks) {
  for (auto [count, size] : {std::pair<size_t, size_t>{0, 0}, {0, SIZE_MAX}, {SIZE_MAX, 0}}) {
    void* p = calloc(opaque(count), opaque(size));
    EXPECT_NE(p, nullptr) << count << " * " << size;
    free(p);
  }
}

// Blocks that were dirtied and freed come back zeroed, every usable byte.
TEST(Calloc, RecycledMemoryIsZero) {
  for (size_t size : {1ul, 16ul, 24ul, 100ul, 1000ul, 4096ul, 10000ul, 33000ul, 100000ul, 500000ul,
                      3000000ul, 20000000ul}) {
    const size_t count = size < 10000 ? 200 : size < 1000000 ? 20 : 3;
    for (int round = 0; round < 3; round++) {
      std::vector<void*> dirty;
      for (size_t i = 0; i < count; i++) {
        dirty.push_back(malloc(size));
        ASSERT_NE(dirty.back(), nullptr);
        memset(dirty.back(), 0xdb, malloc_usable_size(dirty.back()));
      }
      for (void* p : dirty) free(p);
      std::vector<unsigned char*> clean;
      for (size_t i = 0; i < count; i++) {
        auto* p = static_cast<unsigned char*>(calloc(1, size));
        ASSERT_NE(p, nullptr);
        const size_t usable = malloc_usable_size(p);
        size_t dirty_bytes = 0;
        for (size_t k = 0; k < usable; k++) dirty_bytes += p[k] != 0;
        ASSERT_EQ(dirty_bytes, 0u) << "calloc(1, " << size << "), round " << round;
        clean.push_back(p);
      }
      for (void* p : clean) free(p);
    }
  }
}

TEST(Free, NullIsIgnoredAndErrnoKept) {
  errno = kErrno;
  free(nullptr);
  test_cfree(nullptr);
  test_free_sized(nullptr, 0);
  test_free_aligned_sized(nullptr, 16, 0);
  EXPECT_EQ(errno, kErrno);
}

TEST(Free, KeepsErrno) {
  std::vector<void*> blocks;
  for (size_t size : sizes_to(16 * kMiB)) {
    blocks.push_back(malloc(size));
    ASSERT_NE(blocks.back(), nullptr);
    fill(blocks.back(), size, 3);
  }
  for (int i = 0; i < 10000; i++) blocks.push_back(malloc(200));
  errno = kErrno;
  for (void* p : blocks) free(p);
  EXPECT_EQ(errno, kErrno);
}

TEST(Free, EveryNameOfFreeReturnsTheBlock) {
  const tally_tag tag = tally_tag_create("/free_names");
  ASSERT_NE(tag, TALLY_TAG_NONE);
  ASSERT_EQ(tally_tag_push(tag), 0);
  void* a = malloc(100);
  void* b = malloc(100);
  void* c = aligned_alloc(256, 1024);
  void* d = malloc(2 * kMiB);
  tally_tag_pop();
  EXPECT_EQ(stats_of(tag).own.live_blocks, 4u);
  test_cfree(a);
  test_free_sized(b, 100);
  test_free_aligned_sized(c, 256, 1024);
  test_free_sized(d, 2 * kMiB);
  EXPECT_EQ(stats_of(tag).own.live_blocks, 0u);
  EXPECT_EQ(stats_of(tag).own.live_bytes, 0u);
}

}  // namespace
