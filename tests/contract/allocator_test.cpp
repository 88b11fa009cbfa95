// Containers, resources and pointers on a tag: what they hold is the tag's to the byte, and all of
// it comes back.
#include <gtest/gtest.h>

#include <array>
#include <boost/container/flat_map.hpp>
#include <boost/container/small_vector.hpp>
#include <boost/unordered_map.hpp>
#include <deque>
#include <forward_list>
#include <functional>
#include <list>
#include <map>
#include <numeric>
#include <scoped_allocator>
#include <set>
#include <stdexcept>
#include <string>
#include <tally/memory.hpp>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tally_test.h"

namespace {

using tally::Allocator;
using tally::MemoryResource;
using tally::NamedTag;
using tally::Tag;

template <class T>
using Vector = std::vector<T, Allocator<T>>;
using String = std::basic_string<char, std::char_traits<char>, Allocator<char>>;
using Pair = std::pair<const int, int>;

// Not in a container: ours would ask for its tag while the test looks at it.
uint64_t live(Tag tag) { return tag.stats().own.live_blocks; }
uint64_t live_bytes(Tag tag) { return tag.stats().own.live_bytes; }
uint64_t requested(Tag tag) { return tag.stats().own.requested_bytes; }

// ---- The allocator by itself

static_assert(std::is_empty_v<Allocator<int, NamedTag<"size">>>);
static_assert(sizeof(Allocator<int>) == sizeof(Tag));
static_assert(sizeof(std::vector<int, Allocator<int, NamedTag<"size">>>) ==
              sizeof(std::vector<int>));
static_assert(std::is_nothrow_move_assignable_v<Vector<int>>);
static_assert(std::is_nothrow_swappable_v<Vector<int>>);
static_assert(std::is_nothrow_default_constructible_v<Allocator<int>>);
static_assert(std::is_convertible_v<Tag, Allocator<int>>);
static_assert(!std::is_constructible_v<Allocator<int, NamedTag<"size">>, Tag>);
static_assert(tally::detail::is_tag_path("a/b") && tally::detail::is_tag_path("/a/b") &&
              tally::detail::is_tag_path("/") && tally::detail::is_tag_path(""));
static_assert(!tally::detail::is_tag_path("a//b") && !tally::detail::is_tag_path("a/") &&
              !tally::detail::is_tag_path("//a") && !tally::detail::is_tag_path("a\n"));

TEST(Allocator, AsksForWhatItIsAskedForUnderItsTag) {
  const Tag tag = Tag::create("/alloc/exact");
  Allocator<uint64_t> allocator(tag);
  const tally::TagScope elsewhere(Tag::create("/alloc/elsewhere"));
  uint64_t* p = allocator.allocate(13);
  EXPECT_EQ(Tag::of(p), tag);
  EXPECT_EQ(requested(tag), 13 * sizeof(uint64_t));
  EXPECT_EQ(live(tag), 1u);
  uint64_t* nothing = allocator.allocate(0);
  EXPECT_NE(nothing, nullptr);
  allocator.deallocate(nothing, 0);
  allocator.deallocate(p, 13);
  EXPECT_EQ(live(tag), 0u);
  EXPECT_EQ(live_bytes(tag), 0u);
}

TEST(Allocator, WithoutATagHasTheThreadsAtItsConstruction) {
  const Tag tag = Tag::create("/alloc/current");
  EXPECT_EQ(Allocator<int>().tag(), Tag());
  const tally::TagScope scope(tag);
  const Allocator<int> made_here;
  EXPECT_EQ(made_here.tag(), tag);
  {
    const tally::TagScope inner(Tag::create("/alloc/current/inner"));
    EXPECT_EQ(made_here.tag(), tag);
    EXPECT_EQ(Allocator<char>(made_here).tag(), tag);
  }
}

TEST(Allocator, ANamedTagIsMadeAtFirstUse) {
  EXPECT_FALSE(Tag::find("/alloc/named/one"));
  std::vector<int, Allocator<int, NamedTag<"alloc/named/one">>> v;
  EXPECT_FALSE(Tag::find("/alloc/named/one"));
  v.assign(100, 7);
  const Tag tag = Tag::find("/alloc/named/one");
  ASSERT_TRUE(tag);
  EXPECT_EQ(v.get_allocator().tag(), tag);
  EXPECT_EQ(NamedTag<"/alloc/named/one">::tag(), tag);
  EXPECT_EQ(requested(tag), 100 * sizeof(int));
  v = {};
  v.shrink_to_fit();
  EXPECT_EQ(live(tag), 0u);
}

TEST(Allocator, OverAlignedTypesAreAligned) {
  struct alignas(256) Wide {
    char bytes[256];
  };
  const Tag tag = Tag::create("/alloc/wide");
  {
    std::list<Wide, Allocator<Wide>> list(tag);
    Vector<Wide> vector(tag);
    for (int i = 0; i < 20; ++i) {
      list.emplace_back();
      vector.emplace_back();
      EXPECT_EQ(reinterpret_cast<uintptr_t>(&list.back()) % alignof(Wide), 0u);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(&vector.front()) % alignof(Wide), 0u);
    }
    EXPECT_EQ(live(tag), 21u);
  }
  EXPECT_EQ(live(tag), 0u);
}

TEST(Allocator, AllAreEqualAndFreeEachOthersBlocks) {
  const Tag a = Tag::create("/alloc/equal/a"), b = Tag::create("/alloc/equal/b");
  Allocator<int> from_a(a), from_b(b);
  EXPECT_TRUE(from_a == from_b);
  EXPECT_FALSE(from_a != from_b);
  EXPECT_TRUE(from_a == Allocator<long>(b));
  from_b.deallocate(from_a.allocate(10), 10);
  EXPECT_EQ(live(a), 0u);
  EXPECT_EQ(a.stats().own.free_count, 1u);
  EXPECT_EQ(b.stats().own.free_count, 0u);
}

// ---- Failure

TEST(Allocator, SizesThatOverflowAreBadArrayLength) {
  const Tag tag = Tag::create("/alloc/overflow");
  Allocator<uint64_t> allocator(tag);
  const size_t most = size_t{PTRDIFF_MAX} / sizeof(uint64_t);
  for (size_t n : {most + 1, SIZE_MAX / sizeof(uint64_t) + 2, SIZE_MAX}) {
    EXPECT_THROW((void)allocator.allocate(opaque(n)), std::bad_array_new_length);
  }
  errno = 0;
  EXPECT_THROW((void)allocator.allocate(opaque(most)), std::bad_alloc);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_THROW(Vector<int>(tag).reserve(SIZE_MAX / 2), std::length_error);
  EXPECT_EQ(tag.stats().own.alloc_count, 0u);
}

TEST(Allocator, ARetiredTagIsBadAllocWithEinvalAndNoHandlerIsAsked) {
  const Tag tag = Tag::create("/alloc/retired");
  Vector<int> v(tag);
  v.assign(10, 1);
  ASSERT_TRUE(tag.retire());
  static int calls;
  calls = 0;
  std::set_new_handler([] { ++calls; });
  MemoryResource resource(tag);
  const auto expect_einval = [](auto function) {
    errno = 0;
    EXPECT_THROW(function(), std::bad_alloc);
    EXPECT_EQ(errno, EINVAL);
  };
  expect_einval([&] { v.resize(1000); });
  expect_einval([&] { (void)resource.allocate(8); });
  expect_einval([&] { (void)tally::make_unique_in<int>(tag, 5); });
  expect_einval([] { (void)Allocator<int>(Tag(TALLY_TAG_NONE)).allocate(1); });
  std::set_new_handler(nullptr);
  EXPECT_EQ(calls, 0);
  EXPECT_EQ(v, Vector<int>(10, 1));
}

TEST(Allocator, TheNewHandlerIsAskedUntilItHelpsOrIsGone) {
  static std::vector<void*> held;
  const Tag tag = Tag::create("/alloc/handler");
  ASSERT_TRUE(tag.limit(TALLY_LIMIT_NONE, 4 << 20));
  while (void* p = tally_malloc(tag.id(), 64 << 10)) held.push_back(p);
  static int calls;
  calls = 0;
  std::set_new_handler([] {
    if (++calls == 3) std::set_new_handler(nullptr);
    if (calls == 2) {
      for (void* p : held) tally_free(p);
      held.clear();
    }
  });
  Vector<char> v(1 << 20, 'x', tag);  // after the second call there is room
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(Tag::of(v.data()), tag);
  errno = 0;
  EXPECT_THROW(v.resize(8 << 20), std::bad_alloc);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_EQ(v.size(), size_t{1} << 20);
}

TEST(Allocator, ANamedTagThatCannotBeMadeIsBadAlloc) {
  errno = 0;
  EXPECT_THROW((std::vector<int, Allocator<int, NamedTag<"tally/not_allowed">>>(5)),
               std::bad_alloc);
  EXPECT_EQ(errno, EINVAL);
}

// ---- Containers

// Fills a container through `fill`, and expects that all that it holds is the tag's and goes.
template <class Container, class Fill>
void expect_accounted(const char* path, size_t elements, size_t blocks_at_least, Fill fill) {
  SCOPED_TRACE(path);
  const Tag tag = Tag::create(path);
  {
    Container container{typename Container::allocator_type(tag)};
    const uint64_t root_before = Tag().stats().own.live_blocks;
    for (size_t n = 0; n < elements; ++n) fill(container, static_cast<int>(n));
    EXPECT_EQ(Tag().stats().own.live_blocks, root_before);
    EXPECT_EQ(container.size(), elements);
    EXPECT_GE(live(tag), blocks_at_least);
    EXPECT_GE(live_bytes(tag), elements * sizeof(typename Container::value_type));
    EXPECT_GE(requested(tag), elements * sizeof(typename Container::value_type));
  }
  EXPECT_EQ(live(tag), 0u);
  EXPECT_EQ(live_bytes(tag), 0u);
  EXPECT_EQ(tag.stats().own.alloc_count, tag.stats().own.free_count);
}

TEST(Allocator, HoldsStandardContainers) {
  constexpr size_t n = 1000;
  const auto push = [](auto& c, int i) { c.push_back(static_cast<char>(i)); };
  const auto emplace = [](auto& c, int i) { c.emplace(i, -i); };
  expect_accounted<Vector<int>>("/std/vector", n, 1, push);
  expect_accounted<Vector<bool>>("/std/bits", 0, 0, push);
  expect_accounted<std::deque<int, Allocator<int>>>("/std/deque", n, n * 4 / 512, push);
  expect_accounted<std::list<int, Allocator<int>>>("/std/list", n, n, push);
  expect_accounted<String>("/std/string", n, 1, push);
  expect_accounted<std::map<int, int, std::less<>, Allocator<Pair>>>("/std/map", n, n, emplace);
  expect_accounted<std::unordered_map<int, int, std::hash<int>, std::equal_to<>, Allocator<Pair>>>(
      "/std/unordered", n, n + 1, emplace);
  expect_accounted<std::multiset<int, std::less<>, Allocator<int>>>(
      "/std/multiset", n, n, [](auto& c, int i) { c.insert(i / 2); });
}

TEST(Allocator, HoldsBoostsContainers) {
  namespace bc = boost::container;
  constexpr size_t n = 1000;
  const auto emplace = [](auto& c, int i) { c.emplace(i, -i); };
  const auto push = [](auto& c, int i) { c.push_back(i); };
  using Entry = std::pair<int, int>;
  expect_accounted<bc::flat_map<int, int, std::less<>, Allocator<Entry>>>("/boost/flat", n, 1,
                                                                          emplace);
  expect_accounted<
      boost::unordered_map<int, int, boost::hash<int>, std::equal_to<>, Allocator<Pair>>>(
      "/boost/unordered", n, n, emplace);
  expect_accounted<bc::small_vector<int, 8, Allocator<int>>>("/boost/small", n, 1, push);
  expect_accounted<bc::small_vector<int, 8, Allocator<int>>>("/boost/smaller", 0, 0, push);
  using Small = bc::small_vector<int, 8, Allocator<int>>;
  Small inside{Small::allocator_type(Tag::create("/boost/inside"))};
  for (int i = 0; i < 8; ++i) inside.push_back(i);
  EXPECT_EQ(Tag::find("/boost/inside").stats().own.alloc_count, 0u);
}

TEST(Allocator, AListsNodesAndAStringsBytesAreCountedExactly) {
  const Tag nodes = Tag::create("/exact/nodes"), bytes = Tag::create("/exact/bytes");
  std::list<int64_t, Allocator<int64_t>> list(nodes);
  for (int i = 0; i < 100; ++i) list.push_back(i);
  EXPECT_EQ(nodes.stats().own.alloc_count, 100u);
  EXPECT_EQ(requested(nodes), 100 * (2 * sizeof(void*) + sizeof(int64_t)));
  String text(1000, 'x', bytes);
  EXPECT_EQ(requested(bytes), 1001u);
  EXPECT_EQ(live(bytes), 1u);
  String small("small", bytes);  // fits into the string itself
  EXPECT_EQ(live(bytes), 1u);
}

TEST(Allocator, ReachesElementsWithAScopedAdaptor) {
  const Tag tag = Tag::create("/alloc/scoped");
  using Strings = std::vector<String, std::scoped_allocator_adaptor<Allocator<String>>>;
  {
    Strings strings{Allocator<String>(tag)};
    strings.reserve(3);
    for (int i = 0; i < 3; ++i) strings.emplace_back(100, 'x');
    EXPECT_EQ(live(tag), 4u);
    EXPECT_EQ(requested(tag), 3 * (101 + sizeof(String)));
  }
  EXPECT_EQ(live(tag), 0u);
}

// ---- Between tags: a container keeps its tag, a block its own

class BetweenTags : public testing::Test {
 protected:
  const Tag a_ = Tag::create("/between/a"), b_ = Tag::create("/between/b");
  void TearDown() override {
    EXPECT_EQ(live(a_), 0u);
    EXPECT_EQ(live(b_), 0u);
  }
};

TEST_F(BetweenTags, MoveAssignmentTakesTheBlocksAndLeavesTheTag) {
  Vector<int> to(10, 1, a_), from(1000, 2, b_);
  const int* const data = from.data();
  const uint64_t allocated = a_.stats().own.alloc_count + b_.stats().own.alloc_count;
  to = std::move(from);
  EXPECT_EQ(to.data(), data);
  EXPECT_EQ(a_.stats().own.alloc_count + b_.stats().own.alloc_count, allocated);
  EXPECT_EQ(live(a_), 0u);
  EXPECT_EQ(Tag::of(to.data()), b_);
  EXPECT_EQ(to.get_allocator().tag(), a_);
  to.push_back(3);  // grows: from here on it is the container's tag again
  EXPECT_EQ(Tag::of(to.data()), a_);
  EXPECT_EQ(live(b_), 0u);
}

TEST_F(BetweenTags, MoveConstructionTakesTheTagAlong) {
  Vector<int> from(100, 1, a_);
  const int* const data = from.data();
  const Vector<int> to = std::move(from);
  EXPECT_EQ(to.data(), data);
  EXPECT_EQ(to.get_allocator().tag(), a_);
  Vector<int> elsewhere(Vector<int>(100, 1, a_), b_);  // as assignment does
  EXPECT_EQ(elsewhere.get_allocator().tag(), b_);
  EXPECT_EQ(Tag::of(elsewhere.data()), a_);
}

TEST_F(BetweenTags, CopiesAreUnderTheTagOfWhoHoldsThem) {
  const Vector<int> from(100, 1, a_);
  Vector<int> assigned(b_);
  assigned = from;
  EXPECT_EQ(Tag::of(assigned.data()), b_);
  EXPECT_EQ(assigned.get_allocator().tag(), b_);
  {
    const tally::TagScope scope(b_);
    const Vector<int> copy = from;  // no container says: it is the thread's tag
    EXPECT_EQ(Tag::of(copy.data()), b_);
  }
  const Vector<int> copy = from;
  EXPECT_EQ(Tag::of(copy.data()), Tag());
}

TEST_F(BetweenTags, SwapExchangesTheBlocksAndLeavesTheTags) {
  std::map<int, String, std::less<>, Allocator<std::pair<const int, String>>> x(a_), y(b_);
  for (int i = 0; i < 50; ++i) x.emplace(i, String(100, 'x', a_));
  y.emplace(1, String(100, 'y', b_));
  const uint64_t in_a = live(a_), in_b = live(b_);
  swap(x, y);
  EXPECT_EQ(live(a_), in_a);
  EXPECT_EQ(live(b_), in_b);
  EXPECT_EQ(x.get_allocator().tag(), a_);
  EXPECT_EQ(Tag::of(&*x.begin()), Tag(TALLY_TAG_NONE));  // inside a node: not its start
  x.clear();
  EXPECT_EQ(live(b_), 0u);
  x.emplace(7, String(100, 'z', a_));
  EXPECT_EQ(live(a_), in_a + 2);
}

TEST_F(BetweenTags, ListsAreSplicedAndNodesHandedOver) {
  std::list<int, Allocator<int>> x({1, 2, 3}, a_), y({4, 5}, b_);
  x.splice(x.end(), y);
  EXPECT_EQ(x.size(), 5u);
  EXPECT_EQ(live(a_), 3u);
  EXPECT_EQ(live(b_), 2u);
  std::map<int, int, std::less<>, Allocator<Pair>> m(a_), n(b_);
  m.emplace(1, 1);
  n.insert(m.extract(1));
  EXPECT_EQ(live(a_), 4u);
  n.clear();
  EXPECT_EQ(live(a_), 3u);
}

TEST_F(BetweenTags, BoostsContainersToo) {
  boost::container::flat_map<int, int, std::less<>, Allocator<std::pair<int, int>>> x(a_), y(b_);
  for (int i = 0; i < 100; ++i) y.emplace(i, i);
  const uint64_t allocated = a_.stats().own.alloc_count;
  x = std::move(y);
  EXPECT_EQ(a_.stats().own.alloc_count, allocated);
  EXPECT_EQ(x.size(), 100u);
  EXPECT_EQ(live(b_), 1u);
  x.swap(y);
  EXPECT_EQ(y.size(), 100u);
  EXPECT_EQ(y.get_allocator().tag(), b_);
}

// ---- Resources and pointers

TEST(MemoryResource, HoldsPmrContainersAndTheirElements) {
  const Tag tag = Tag::create("/pmr/nested");
  MemoryResource resource(tag);
  {
    std::pmr::unordered_map<std::pmr::string, std::pmr::vector<int>> map(&resource);
    for (int i = 0; i < 100; ++i) {
      map[std::pmr::string(50, static_cast<char>('0' + i % 64))].push_back(i);
    }
    EXPECT_EQ(map.size(), 64u);
    EXPECT_GE(live(tag), 3 * map.size() + 1);  // nodes, strings, vectors; the table
  }
  EXPECT_EQ(live(tag), 0u);
  EXPECT_EQ(live_bytes(tag), 0u);
}

TEST(MemoryResource, AlignsAndRefusesWhatIsNoPowerOfTwo) {
  const Tag tag = Tag::create("/pmr/align");
  MemoryResource resource(tag);
  for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
    void* p = resource.allocate(100, alignment);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % alignment, 0u);
    resource.deallocate(p, 100, alignment);
  }
  const uint64_t count = tag.stats().own.alloc_count;
  for (size_t bad : {0, 3, 12, 48, 4097}) {
    errno = 0;
    EXPECT_THROW((void)resource.allocate(100, opaque(bad)), std::bad_alloc) << bad;
    EXPECT_EQ(errno, EINVAL) << bad;
  }
  EXPECT_THROW((void)resource.allocate(opaque(SIZE_MAX)), std::bad_alloc);
  EXPECT_EQ(tag.stats().own.alloc_count, count);
  EXPECT_EQ(live(tag), 0u);
}

TEST(MemoryResource, EqualsEachOtherSoThatContainersExchangeBlocks) {
  const Tag a = Tag::create("/pmr/a"), b = Tag::create("/pmr/b");
  MemoryResource from_a(a), from_b(b);
  EXPECT_TRUE(from_a == from_b);
  EXPECT_FALSE(from_a == *std::pmr::new_delete_resource());
  EXPECT_FALSE(*std::pmr::new_delete_resource() == from_a);
  {
    std::pmr::vector<int> x(100, 1, &from_a), y(200, 2, &from_b);
    const int* const data = y.data();
    x.swap(y);
    EXPECT_EQ(x.data(), data);
    y = std::move(x);
    EXPECT_EQ(y.data(), data);
  }
  EXPECT_EQ(live(a), 0u);
  EXPECT_EQ(live(b), 0u);
  const tally::TagScope scope(a);
  EXPECT_EQ(MemoryResource().tag(), a);
}

TEST(MakeUniqueIn, HoldsTheObjectAndWhatItAllocates) {
  const Tag tag = Tag::create("/unique");
  {
    const std::string name(200, 'n');
    const std::unique_ptr<std::string> text = tally::make_unique_in<std::string>(tag, name);
    EXPECT_EQ(*text, name);
    EXPECT_EQ(requested(tag), sizeof(std::string) + 201);
    EXPECT_EQ(Tag::current(), Tag());
  }
  struct Throws {
    std::string held = std::string(100, 'x');
    Throws() { throw std::runtime_error("no"); }
  };
  EXPECT_THROW((void)tally::make_unique_in<Throws>(tag), std::runtime_error);
  EXPECT_EQ(Tag::current(), Tag());
  EXPECT_EQ(live(tag), 0u);
}

TEST(AllocateShared, IsOneBlockOfTheTag) {
  const Tag tag = Tag::create("/shared");
  {
    const auto shared = std::allocate_shared<std::array<int, 100>>(Allocator<int>(tag));
    EXPECT_EQ(live(tag), 1u);
    EXPECT_GE(requested(tag), sizeof *shared);
  }
  EXPECT_EQ(live(tag), 0u);
}

}  // namespace
