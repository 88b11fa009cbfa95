// Every replaceable form of operator new and delete, and the new_handler's loop.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdint>
#include <new>
#include <vector>

#include "blocks.hpp"
#include "tally_test.h"

namespace {

using std::align_val_t;
using std::nothrow;

constexpr size_t kMiB = 1 << 20;

bool is_aligned(const void* p, size_t alignment) {
  return reinterpret_cast<uintptr_t>(p) % alignment == 0;
}

// What was got by each form of new, given back by each form of delete that matches; counted under
// one tag.
class NewForms : public testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    tag_ = tally_tag_create("/new_forms");
    ASSERT_EQ(tally_tag_push(tag_), 0);
  }
  void TearDown() override {
    ASSERT_EQ(tally_tag_pop(), 0);
    EXPECT_EQ(stats_of(tag_).own.live_blocks, 0u);
    EXPECT_EQ(stats_of(tag_).own.live_bytes, 0u);
  }
  void* taken(void* p, size_t alignment = 16) {
    EXPECT_NE(p, nullptr);
    EXPECT_TRUE(is_aligned(p, alignment));
    EXPECT_GE(malloc_usable_size(p), GetParam());
    EXPECT_EQ(tally_tag_of(p), tag_);
    fill(p, GetParam(), 1);
    return p;
  }

 private:
  tally_tag tag_ = TALLY_TAG_NONE;
};

TEST_P(NewForms, Single) {
  const size_t size = GetParam();
  ::operator delete(taken(::operator new(size)));
  ::operator delete(taken(::operator new(size)), size);
  ::operator delete(taken(::operator new(size)), nothrow);
  ::operator delete(taken(::operator new(size, nothrow)));
  ::operator delete(taken(::operator new(size, nothrow)), size);
  ::operator delete(taken(::operator new(size, nothrow)), nothrow);
}

TEST_P(NewForms, Array) {
  const size_t size = GetParam();
  ::operator delete[](taken(::operator new[](size)));
  ::operator delete[](taken(::operator new[](size)), size);
  ::operator delete[](taken(::operator new[](size)), nothrow);
  ::operator delete[](taken(::operator new[](size, nothrow)));
  ::operator delete[](taken(::operator new[](size, nothrow)), size);
  ::operator delete[](taken(::operator new[](size, nothrow)), nothrow);
}

TEST_P(NewForms, Aligned) {
  const size_t size = GetParam();
  for (size_t alignment = 1; alignment <= kMiB; alignment *= 2) {
    const align_val_t a{alignment};
    ::operator delete(taken(::operator new(size, a), alignment), a);
    ::operator delete(taken(::operator new(size, a), alignment), size, a);
    ::operator delete(taken(::operator new(size, a), alignment), a, nothrow);
    ::operator delete(taken(::operator new(size, a, nothrow), alignment), a);
    ::operator delete(taken(::operator new(size, a, nothrow), alignment), size, a);
    ::operator delete(taken(::operator new(size, a, nothrow), alignment), a, nothrow);
    ::operator delete[](taken(::operator new[](size, a), alignment), a);
    ::operator delete[](taken(::operator new[](size, a), alignment), size, a);
    ::operator delete[](taken(::operator new[](size, a), alignment), a, nothrow);
    ::operator delete[](taken(::operator new[](size, a, nothrow), alignment), a);
    ::operator delete[](taken(::operator new[](size, a, nothrow), alignment), size, a);
    ::operator delete[](taken(::operator new[](size, a, nothrow), alignment), a, nothrow);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, NewForms,
                         testing::Values(0, 1, 8, 16, 100, 1000, 5000, 40000, 1000000));

TEST(New, ZeroBytesGiveDistinctBlocks) {
  void* a = ::operator new(opaque(0));
  void* b = ::operator new(opaque(0));
  EXPECT_NE(a, b);
  ::operator delete(a);
  ::operator delete(b);
}

TEST(New, ManyOfZeroBytes) {
  std::vector<void*> blocks(5000);
  for (void*& each : blocks) each = ::operator new(opaque(0));
  for (void* each : blocks) ::operator delete(each, opaque(0));
}

TEST(New, DeleteOfNull) {
  ::operator delete(nullptr);
  ::operator delete(nullptr, 10);
  ::operator delete[](nullptr);
  ::operator delete[](nullptr, 10);
  ::operator delete(nullptr, nothrow);
  ::operator delete (nullptr, align_val_t{64});
  ::operator delete[](nullptr, 10, align_val_t{64});
}

// Sizes that must end in bad_alloc: some wrap to a small number when they are rounded up.
const size_t kImpossible[] = {SIZE_MAX,        SIZE_MAX - 7,     SIZE_MAX - 8, SIZE_MAX - 15,
                              SIZE_MAX - 4095, SIZE_MAX / 2 + 1, PTRDIFF_MAX,  size_t{1} << 50};

TEST(New, ThrowsBadAllocOfTheProgramsOwnRuntime) {
  for (size_t size : kImpossible) {
    EXPECT_THROW((void)::operator new(opaque(size)), std::bad_alloc) << size;
    EXPECT_THROW((void)::operator new[](opaque(size)), std::bad_alloc) << size;
    EXPECT_THROW((void)::operator new (opaque(size), align_val_t{64}), std::bad_alloc) << size;
    EXPECT_THROW((void)::operator new[](opaque(size), align_val_t{4096}), std::bad_alloc) << size;
  }
  try {
    (void)::operator new(opaque(SIZE_MAX));
    ADD_FAILURE();
  } catch (const std::exception& error) {
    EXPECT_STREQ(error.what(), std::bad_alloc().what());
  }
}

TEST(New, NothrowReturnsNull) {
  for (size_t size : kImpossible) {
    EXPECT_EQ(::operator new(opaque(size), nothrow), nullptr) << size;
    EXPECT_EQ(::operator new[](opaque(size), nothrow), nullptr) << size;
    EXPECT_EQ(::operator new (opaque(size), align_val_t{64}, nothrow), nullptr) << size;
    EXPECT_EQ(::operator new[](opaque(size), align_val_t{4096}, nothrow), nullptr) << size;
  }
}

int handler_calls = 0;
struct FromHandler {};

class NewHandler : public testing::Test {
 protected:
  void SetUp() override { handler_calls = 0; }
  void TearDown() override { std::set_new_handler(nullptr); }
};

TEST_F(NewHandler, IsCalledUntilItGivesUp) {
  std::set_new_handler([] {
    if (++handler_calls == 5) std::set_new_handler(nullptr);
  });
  EXPECT_THROW((void)::operator new(opaque(SIZE_MAX / 2)), std::bad_alloc);
  EXPECT_EQ(handler_calls, 5);
}

TEST_F(NewHandler, MayThrowWhatItLikes) {
  std::set_new_handler([] {
    handler_calls++;
    throw FromHandler();
  });
  struct Derived : std::bad_alloc {};
  EXPECT_THROW((void)::operator new(opaque(SIZE_MAX / 2)), FromHandler);
  EXPECT_THROW((void)::operator new[](opaque(SIZE_MAX / 2)), FromHandler);
  EXPECT_THROW((void)::operator new (opaque(SIZE_MAX / 2), align_val_t{64}), FromHandler);
  EXPECT_EQ(handler_calls, 3);
  std::set_new_handler([] { throw Derived(); });
  EXPECT_THROW((void)::operator new(opaque(SIZE_MAX / 2)), Derived);
}

TEST_F(NewHandler, ThatThrowsBadAllocMakesNothrowReturnNull) {
  std::set_new_handler([] {
    handler_calls++;
    throw std::bad_alloc();
  });
  EXPECT_EQ(::operator new(opaque(SIZE_MAX / 2), nothrow), nullptr);
  EXPECT_EQ(::operator new[](opaque(SIZE_MAX / 2), nothrow), nullptr);
  EXPECT_EQ(::operator new (opaque(SIZE_MAX / 2), align_val_t{64}, nothrow), nullptr);
  EXPECT_EQ(handler_calls, 3);
}

rlimit old_limit;

// The address space is kept short until the handler gives the rest back: the request then succeeds.
TEST_F(NewHandler, ThatFreesMemoryLetsTheRequestSucceed) {
  constexpr size_t kRequest = 512 * kMiB;
  ASSERT_EQ(getrlimit(RLIMIT_AS, &old_limit), 0);
  rlimit limit = old_limit;
  limit.rlim_cur = statm_bytes(0) + 128 * kMiB;
  std::set_new_handler([] {
    handler_calls++;
    setrlimit(RLIMIT_AS, &old_limit);
  });
  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  void* p = ::operator new(opaque(kRequest));
  EXPECT_NE(p, nullptr);
  EXPECT_EQ(handler_calls, 1);
  ::operator delete(p);

  ASSERT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  p = ::operator new (opaque(kRequest), align_val_t{4096}, nothrow);
  EXPECT_NE(p, nullptr);
  EXPECT_TRUE(is_aligned(p, 4096));
  EXPECT_GE(handler_calls, 1);
  ::operator delete (p, align_val_t{4096});
  setrlimit(RLIMIT_AS, &old_limit);
}

TEST_F(NewHandler, IsNotCalledBySuccess) {
  std::set_new_handler([] { handler_calls++; });
  for (size_t size : {1ul, 1000ul, 100000ul, 10000000ul}) ::operator delete(::operator new(size));
  EXPECT_EQ(handler_calls, 0);
}

TEST(New, WhatMallocRefusesIsNotTheHandlersAffair) {
  std::set_new_handler([] { handler_calls++; });
  handler_calls = 0;
  EXPECT_EQ(malloc(opaque(SIZE_MAX / 2)), nullptr);
  EXPECT_EQ(handler_calls, 0);
  std::set_new_handler(nullptr);
}

struct alignas(256) Wide {
  char bytes[300];
};

TEST(New, ExpressionsOfOverAlignedTypesAndArrays) {
  auto* one = new Wide;
  auto* many = new Wide[7];
  EXPECT_TRUE(is_aligned(one, 256));
  EXPECT_TRUE(is_aligned(many, 256));
  delete one;
  delete[] many;
  auto* strings = new std::string[100];
  for (int i = 0; i < 100; i++) strings[i] = std::string(i, 'x');
  delete[] strings;
  EXPECT_THROW((void)new Wide[opaque(SIZE_MAX / 400)], std::bad_alloc);
}

}  // namespace
