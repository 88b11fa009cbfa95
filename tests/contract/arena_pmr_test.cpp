// tally::Arena: containers of std::pmr, objects, scopes, and failures as C++ has them.
#include <gtest/gtest.h>

#include <cerrno>
#include <list>
#include <map>
#include <memory_resource>
#include <new>
#include <stdexcept>
#include <string>
#include <tally/arena.hpp>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "tally_test.h"

namespace {

static_assert(!std::is_copy_constructible_v<tally::Arena> &&
              !std::is_move_constructible_v<tally::Arena>);
static_assert(std::is_nothrow_constructible_v<tally::Arena, std::nothrow_t, tally::Tag>);
static_assert(!std::is_convertible_v<tally::Tag, tally::Arena>);

constexpr size_t kMiB = 1 << 20;

TEST(ArenaPmr, ContainersLiveOnIt) {
  const tally::Tag tag = tally::Tag::create("/arena_pmr/containers");
  const uint64_t elsewhere = stats_of(TALLY_TAG_ROOT).own.live_blocks;
  {
    tally::Arena arena(tag);
    std::pmr::vector<std::pmr::string> strings(&arena);
    std::pmr::list<int> numbers(&arena);
    std::pmr::unordered_map<std::pmr::string, std::pmr::vector<int>> lists(&arena);
    std::pmr::map<int, std::pmr::string> names(&arena);
    for (int i = 0; i < 2000; i++) {
      const std::string text = "a string too long to be stored in itself: " + std::to_string(i);
      strings.emplace_back(text);
      numbers.push_back(i);
      lists[strings.back()].assign(i % 50, i);
      names.emplace(i, text);
      if (i % 3 == 0) lists.erase(strings[i / 2]);
    }
    EXPECT_EQ(strings[1234].get_allocator().resource(), &arena);
    EXPECT_EQ(names.at(1999), strings[1999]);
    EXPECT_EQ(lists.at(strings[1999]), std::pmr::vector<int>(1999 % 50, 1999));
    EXPECT_EQ(numbers.back(), 1999);
    EXPECT_EQ(stats_of(TALLY_TAG_ROOT).own.live_blocks, elsewhere) << "nothing of it by malloc";
    EXPECT_EQ(tag.stats().own.live_bytes, arena.stats().reserved_bytes);
    EXPECT_GT(arena.stats().used_bytes, 2000u * (2 * 48 + 24));
  }
  EXPECT_EQ(tag.stats().own.live_blocks, 0u);
}

TEST(ArenaPmr, IsEqualToItselfAlone) {
  tally::Arena arena, other;
  EXPECT_TRUE(arena.is_equal(arena));
  EXPECT_FALSE(arena.is_equal(other));
  EXPECT_FALSE(arena.is_equal(*std::pmr::new_delete_resource()));
  EXPECT_FALSE(std::pmr::new_delete_resource()->is_equal(arena));
}

TEST(ArenaPmr, OptionsMayBeGiven) {
  tally::Arena arena(tally::Tag::create("/arena_pmr/options"), {.first_bytes = 1024});
  const uint64_t descriptor = arena.stats().reserved_bytes;
  ASSERT_NE(arena.alloc(8), nullptr);
  EXPECT_EQ(arena.stats().reserved_bytes, descriptor + 1024);
}

TEST(ArenaPmr, ItsTagIsTheThreadsUnlessNamed) {
  const tally::Tag tag = tally::Tag::create("/arena_pmr/scope");
  const tally::TagScope scope(tag);
  EXPECT_EQ(tally::Arena().stats().tag, tag.id());
}

TEST(ArenaPmr, MakesObjectsThatNeedNoDestructor) {
  struct Point {
    Point(int a, int b) : x(a), y(b) {}
    int x, y;
  };
  struct alignas(128) Wide {
    char c = 'w';
  };
  tally::Arena arena(tally::Tag::create("/arena_pmr/make"));
  const Point* point = arena.make<Point>(3, 4);
  EXPECT_EQ(point->x * 10 + point->y, 34);
  EXPECT_EQ(*arena.make<int>(), 0);
  const Wide* wide = arena.make<Wide>();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(wide) % 128, 0u);
  EXPECT_EQ(wide->c, 'w');
  struct Throws {
    Throws() { throw std::runtime_error("no"); }
  };
  EXPECT_THROW(arena.make<Throws>(), std::runtime_error);
}

TEST(ArenaPmr, ScopesNestAndTakeBack) {
  tally::Arena arena(tally::Tag::create("/arena_pmr/scopes"));
  void* before = arena.alloc(100);
  const uint64_t used = arena.stats().used_bytes;
  {
    const tally::Arena::Scope outer(arena);
    EXPECT_TRUE(outer.active());
    std::pmr::vector<int> numbers(100, 7, &arena);
    const uint64_t in_outer = arena.stats().used_bytes;
    for (int i = 0; i < 3; i++) {
      const tally::Arena::Scope inner(arena);
      std::pmr::vector<int> more(100000, 8, &arena);
    }
    EXPECT_LE(arena.stats().used_bytes, in_outer + 32) << "no more than the inner mark";
    EXPECT_EQ(numbers[99], 7);
  }
  EXPECT_LE(arena.stats().used_bytes, used + 32);
  EXPECT_NE(before, nullptr);
}

TEST(ArenaPmr, AScopeThatAResetEndedDoesNothing) {
  tally::Arena arena(tally::Tag::create("/arena_pmr/reset_in_scope"));
  char* block = nullptr;
  errno = 7777;
  {
    const tally::Arena::Scope scope(arena);
    arena.reset();
    block = static_cast<char*>(arena.alloc(100));
    *block = 7;
  }
  EXPECT_EQ(errno, 7777);
  EXPECT_NE(arena.alloc(100), block);
  EXPECT_EQ(*block, 7);
}

// ---- Failures

TEST(ArenaPmr, CannotBeMadeForARetiredTag) {
  const tally::Tag tag = tally::Tag::create("/arena_pmr/retired");
  ASSERT_TRUE(tag.retire());
  errno = 0;
  EXPECT_THROW(tally::Arena arena(tag), std::bad_alloc);
  EXPECT_EQ(errno, EINVAL);
  errno = 0;
  const tally::Arena arena(std::nothrow, tag);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_FALSE(arena);
  const tally::Arena sound(std::nothrow, tally::Tag::create("/arena_pmr/sound"));
  EXPECT_TRUE(sound);
}

TEST(ArenaPmr, ARefusalIsBadAllocAndLeavesItUsable) {
  const tally::Tag tag = tally::Tag::create("/arena_pmr/limit");
  ASSERT_TRUE(tag.limit(TALLY_LIMIT_NONE, kMiB));
  tally::Arena arena(tag);
  std::pmr::vector<char> small(100, 'a', &arena);
  std::pmr::vector<char> large(&arena);
  EXPECT_THROW(large.resize(2 * kMiB), std::bad_alloc);
  EXPECT_THROW((void)arena.allocate(SIZE_MAX), std::bad_alloc);
  EXPECT_THROW((void)arena.allocate(100, 3), std::bad_alloc);
  struct Large {
    char bytes[2 * kMiB];
  };
  EXPECT_THROW((void)arena.make<Large>(), std::bad_alloc);
  EXPECT_EQ(arena.alloc(2 * kMiB), nullptr);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(small[99], 'a');
  small.resize(1000);
  EXPECT_NE(arena.allocate(0), nullptr);
}

tally::Tag handled_tag;
int handler_calls;

TEST(ArenaPmr, TheNewHandlerIsCalledWhereThereIsNoMemory) {
  handled_tag = tally::Tag::create("/arena_pmr/handler");
  ASSERT_TRUE(handled_tag.limit(TALLY_LIMIT_NONE, kMiB));
  tally::Arena arena(handled_tag);
  std::set_new_handler([] {
    handler_calls++;
    handled_tag.limit(TALLY_LIMIT_NONE, 4 * kMiB);
  });
  EXPECT_NE(arena.allocate(2 * kMiB), nullptr);
  EXPECT_EQ(handler_calls, 1);
  EXPECT_THROW((void)arena.allocate(100, 3), std::bad_alloc) << "which no handler can help";
  EXPECT_EQ(handler_calls, 1);
  std::set_new_handler(nullptr);
}

}  // namespace
