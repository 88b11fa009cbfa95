// ObjectPool and Boost.Pool on a tag.
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/pool/object_pool.hpp>
#include <boost/pool/pool.hpp>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <tally/pool.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "object_pool_leak.hpp"
#include "tally_test.h"

namespace {

using tally::NamedTag;
using tally::ObjectPool;
using tally::Tag;

uint64_t live(Tag tag) { return tag.stats().own.live_blocks; }

// Counts its own, and fails when told to.
struct Counted {
  static inline int count = 0;
  explicit Counted(int v, bool fails = false) : value(v) {
    if (fails) throw std::runtime_error("told to");
    ++count;
  }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --count; }
  int value;
};

// ---- Boost's own pools

TEST(BoostUserAllocator, BoostsPoolsDrawOnTheTag) {
  using Source = NamedTag<"boost_pool">;
  using User = tally::BoostUserAllocator<Source>;
  {
    boost::object_pool<Counted, User> objects;
    boost::pool<User> chunks(48);
    for (int i = 0; i < 1000; ++i) ASSERT_NE(objects.construct(i), nullptr);
    EXPECT_EQ(Counted::count, 1000);
    const uint64_t of_objects = Source::tag().stats().own.live_bytes;
    EXPECT_GE(of_objects, 1000 * sizeof(Counted));
    for (int i = 0; i < 1000; ++i) ASSERT_NE((chunks.malloc)(), nullptr);
    EXPECT_GE(Source::tag().stats().own.live_bytes, of_objects + 1000u * 48);
  }
  EXPECT_EQ(Counted::count, 0);
  EXPECT_EQ(live(Source::tag()), 0u);
}

TEST(BoostUserAllocator, NoMemoryIsNull) {
  using Source = NamedTag<"boost_pool/none">;
  ASSERT_TRUE(Source::tag().limit(TALLY_LIMIT_NONE, 0));
  boost::pool<tally::BoostUserAllocator<Source>> chunks(48);
  errno = 0;
  EXPECT_EQ((chunks.malloc)(), nullptr);
  EXPECT_EQ(errno, ENOMEM);
}

// ---- ObjectPool

TEST(ObjectPool, ConstructsAndDestroysInTheTagsMemory) {
  const Tag tag = Tag::create("/pool/basic");
  {
    ObjectPool<Counted> pool(tag, 10000);
    EXPECT_EQ(live(tag), 0u);
    std::vector<Counted*> objects;
    for (int i = 0; i < 10000; ++i) objects.push_back(pool.construct(i));
    EXPECT_EQ(std::set<Counted*>(objects.begin(), objects.end()).size(), objects.size());
    for (int i = 0; i < 10000; ++i) EXPECT_EQ(objects[static_cast<size_t>(i)]->value, i);
    EXPECT_EQ(Counted::count, 10000);
    const tally::ObjectPoolStats stats = pool.stats();
    EXPECT_EQ(stats.live, 10000u);
    EXPECT_GE(stats.capacity, 10000u);
    EXPECT_GE(stats.bytes, 10000 * sizeof(Counted));
    EXPECT_EQ(stats.bytes, tag.stats().own.requested_bytes);
    // One of Tally's blocks for many objects, and of its room little is lost.
    EXPECT_LE(live(tag), 10000u / 32 + 1);
    EXPECT_LE(tag.stats().own.live_bytes, stats.bytes + stats.bytes / 16);
    for (Counted* object : objects) pool.destroy(object);
    EXPECT_EQ(Counted::count, 0);
    EXPECT_EQ(pool.stats().live, 0u);
    EXPECT_EQ(pool.stats().high_water, 10000u);
  }
  EXPECT_EQ(live(tag), 0u);
  EXPECT_EQ(tag.stats().own.live_bytes, 0u);
}

TEST(ObjectPool, UsesAgainWhatCameBack) {
  const Tag tag = Tag::create("/pool/again");
  ObjectPool<Counted> pool(tag, 100);
  Counted* first = pool.construct(1);
  pool.destroy(first);
  Counted* second = pool.construct(2);
  EXPECT_EQ(first, second);
  pool.destroy(second);
  pool.destroy(nullptr);
  const uint64_t count = tag.stats().own.alloc_count;
  for (int i = 0; i < 1000; ++i) pool.destroy(pool.construct(i));
  EXPECT_EQ(tag.stats().own.alloc_count, count);
  EXPECT_EQ(pool.stats().high_water, 1u);
}

TEST(ObjectPool, IsBounded) {
  const Tag tag = Tag::create("/pool/bound");
  for (size_t most : {1u, 2u, 33u, 1000u}) {
    ObjectPool<Counted> pool(tag, most);
    EXPECT_EQ(pool.max_objects(), most);
    std::vector<Counted*> objects;
    for (size_t i = 0; i < most; ++i) objects.push_back(pool.construct(1));
    EXPECT_EQ(std::count(objects.begin(), objects.end(), nullptr), 0);
    errno = 0;
    EXPECT_EQ(pool.construct(1), nullptr);
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_FALSE(pool.make(1));
    pool.destroy(objects.back());
    EXPECT_EQ(objects.back() = pool.construct(1), objects.back());
    EXPECT_NE(objects.back(), nullptr);
    for (Counted* object : objects) pool.destroy(object);
    EXPECT_EQ(pool.stats().high_water, most);
  }
  EXPECT_EQ(live(tag), 0u);
}

TEST(ObjectPool, ABoundOfZeroIsInvalid) {
  EXPECT_THROW(ObjectPool<Counted>(Tag(), 0), std::invalid_argument);
  EXPECT_THROW((ObjectPool<Counted, std::mutex>(Tag(), 0)), std::invalid_argument);
}

TEST(ObjectPool, AConstructorThatThrowsGivesItsPlaceBack) {
  const Tag tag = Tag::create("/pool/throws");
  ObjectPool<Counted> pool(tag, 1);
  for (int i = 0; i < 5; ++i) EXPECT_THROW((void)pool.construct(1, true), std::runtime_error);
  EXPECT_THROW((void)pool.make(1, true), std::runtime_error);
  EXPECT_EQ(pool.stats().live, 0u);
  const auto handle = pool.make(7);
  ASSERT_TRUE(handle);
  EXPECT_EQ(handle->value, 7);
}

TEST(ObjectPool, HandlesDestroy) {
  const Tag tag = Tag::create("/pool/handles");
  ObjectPool<Counted> pool(tag, 10);
  {
    auto a = pool.make(1), b = pool.make(2);
    a = std::move(b);
    EXPECT_EQ(Counted::count, 1);
    EXPECT_EQ(a->value, 2);
  }
  EXPECT_EQ(Counted::count, 0);
  EXPECT_EQ(pool.stats().live, 0u);
  EXPECT_EQ(pool.stats().high_water, 2u);
}

// ---- Shapes of objects

template <size_t size, size_t alignment>
struct alignas(alignment) Shape {
  unsigned char bytes[size];
};

template <class T>
void expect_fits(const char* path, size_t count) {
  const Tag tag = Tag::create(path);
  {
    ObjectPool<T> pool(tag, count);
    std::vector<T*> objects;
    for (size_t i = 0; i < count; ++i) {
      objects.push_back(pool.construct());
      ASSERT_NE(objects.back(), nullptr);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(objects.back()) % alignof(T), 0u);
      memset(objects.back()->bytes, static_cast<int>(i), sizeof objects.back()->bytes);
    }
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(objects[i]->bytes[0], static_cast<unsigned char>(i));
      EXPECT_EQ(objects[i]->bytes[sizeof objects[i]->bytes - 1], static_cast<unsigned char>(i));
      pool.destroy(objects[i]);
    }
    EXPECT_EQ(pool.trim(), tag.stats().own.requested_bytes);
  }
  EXPECT_EQ(live(tag), 0u);
}

TEST(ObjectPool, TakesObjectsOfAnySizeAndAlignment) {
  expect_fits<Shape<1, 1>>("/shape/1", 500);
  expect_fits<Shape<9, 1>>("/shape/9", 500);
  expect_fits<Shape<24, 8>>("/shape/24", 500);
  expect_fits<Shape<64, 64>>("/shape/64", 500);
  expect_fits<Shape<100, 4>>("/shape/100", 500);
  expect_fits<Shape<4096, 4096>>("/shape/4096", 100);
  expect_fits<Shape<5000, 8>>("/shape/5000", 100);
  expect_fits<Shape<300'000, 8>>("/shape/300000", 20);
}

TEST(ObjectPool, OneLargeObjectTakesTheMemoryOfOne) {
  using Large = Shape<(1 << 20), 8>;
  const Tag tag = Tag::create("/shape/one");
  ObjectPool<Large> pool(tag, 1);
  pool.destroy(pool.construct());
  EXPECT_LE(pool.stats().bytes, sizeof(Large) + 4096);
}

// ---- No memory

TEST(ObjectPool, ALimitAndARetiredTagAreNull) {
  const Tag tag = Tag::create("/pool/limited");
  ASSERT_TRUE(tag.limit(TALLY_LIMIT_NONE, 1 << 20));
  ObjectPool<Shape<1000, 8>> pool(tag, SIZE_MAX);
  std::vector<Shape<1000, 8>*> objects;
  errno = 0;
  while (auto* object = pool.construct()) objects.push_back(object);
  EXPECT_EQ(errno, ENOMEM);
  EXPECT_GT(objects.size(), 500u);
  EXPECT_EQ(pool.stats().live, objects.size());
  pool.destroy(objects.back());
  objects.back() = pool.construct();
  EXPECT_NE(objects.back(), nullptr);
  for (auto* object : objects) pool.destroy(object);
  pool.trim();

  ASSERT_TRUE(tag.retire());
  errno = 0;
  EXPECT_EQ(pool.construct(), nullptr);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(pool.stats().live, 0u);
  ObjectPool<int> no_tag(Tag(TALLY_TAG_NONE), 5);
  errno = 0;
  EXPECT_EQ(no_tag.construct(1), nullptr);
  EXPECT_EQ(errno, EINVAL);
}

// ---- Trim

TEST(ObjectPool, TrimGivesBackBlocksWithoutObjectsAndNoOther) {
  const Tag tag = Tag::create("/pool/trim");
  ObjectPool<Counted> pool(tag, 100000);
  std::vector<Counted*> objects;
  for (int i = 0; i < 20000; ++i) objects.push_back(pool.construct(i));
  EXPECT_EQ(pool.trim(), 0u);
  const size_t full = pool.stats().bytes;
  std::shuffle(objects.begin(), objects.end(), std::mt19937(1));
  const std::vector<Counted*> kept(objects.end() - 10, objects.end());
  std::vector<int> values;
  for (const Counted* object : kept) values.push_back(object->value);
  for (size_t i = 0; i + 10 < objects.size(); ++i) pool.destroy(objects[i]);
  EXPECT_EQ(pool.stats().bytes, full);

  const size_t given = pool.trim();
  EXPECT_GT(given, full / 2);
  EXPECT_EQ(pool.stats().bytes, full - given);
  EXPECT_LE(live(tag), 10u);
  EXPECT_EQ(pool.trim(), 0u);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i]->value, values[i]);

  // What was free in the blocks that stayed still is, each once.
  std::set<Counted*> again(kept.begin(), kept.end());
  const uint64_t count = tag.stats().own.alloc_count;
  while (again.size() < pool.stats().capacity) EXPECT_TRUE(again.insert(pool.construct(1)).second);
  EXPECT_EQ(tag.stats().own.alloc_count, count);
  for (Counted* object : again) pool.destroy(object);
  EXPECT_GT(pool.trim(), 0u);
  EXPECT_EQ(pool.stats().bytes, 0u);
  EXPECT_EQ(live(tag), 0u);
}

TEST(ObjectPool, APressureCallbackMayTrimIt) {
  const Tag tag = Tag::create("/pool/pressure");
  ASSERT_TRUE(tag.limit(TALLY_LIMIT_NONE, 2 << 20));
  ObjectPool<Shape<1000, 8>, std::mutex> idle(tag, SIZE_MAX);
  ObjectPool<Shape<2000, 8>, std::mutex> busy(tag, SIZE_MAX);
  auto trim = [&](Tag, tally::Pressure level) {
    if (level != tally::Pressure::kHard) return;
    idle.trim();
    busy.trim();
  };
  const tally::PressureListener listener(tag, trim);
  std::vector<Shape<1000, 8>*> first;
  for (int i = 0; i < 1500; ++i) first.push_back(idle.construct());
  for (auto* object : first) idle.destroy(object);
  std::vector<Shape<2000, 8>*> second;
  for (int i = 0; i < 700; ++i) second.push_back(busy.construct());
  EXPECT_EQ(std::count(second.begin(), second.end(), nullptr), 0);
  EXPECT_EQ(idle.stats().bytes, 0u);
  for (auto* object : second) busy.destroy(object);
}

// ---- Nested, and from threads

struct Node {
  using Pool = ObjectPool<Node, std::mutex>;
  Node(Pool* of, int depth) : pool(of), next(depth > 0 ? of->construct(of, depth - 1) : nullptr) {}
  ~Node() { pool->destroy(next); }
  Pool* pool;
  Node* next;
};

TEST(ObjectPool, ObjectsMayUseThePoolTheyAreIn) {
  Node::Pool pool(Tag::create("/pool/nested"), 1000);
  Node* list = pool.construct(&pool, 499);
  EXPECT_EQ(pool.stats().live, 500u);
  pool.destroy(list);
  EXPECT_EQ(pool.stats().live, 0u);
}

// ---- Destroyed with objects out

TEST(ObjectPool, DestroyedWithObjectsOutLeavesThem) {
  const Tag tag = Tag::create("/pool/leak");
  Counted::count = 0;
  Counted* left;
  {
    ObjectPool<Counted> pool(tag, 1000);
    std::vector<Counted*> objects;
    for (int i = 0; i < 1000; ++i) objects.push_back(pool.construct(i));
    left = objects[500];
    for (Counted* object : objects) {
      if (object != left) pool.destroy(object);
    }
  }
  EXPECT_EQ(Counted::count, 1);
  EXPECT_EQ(left->value, 500);
  EXPECT_EQ(live(tag), 1u);  // its block, in the statistics for who looks for the leak
}

TEST(ObjectPoolDeathTest, DestroyedWithObjectsOutIsSaidWhereAssertsAreOn) {
  EXPECT_DEATH(leak_with_asserts(), "tally::ObjectPool destroyed with objects out");
  EXPECT_DEATH(destroy_in_another_with_asserts(), "an object of another pool");
}

}  // namespace
