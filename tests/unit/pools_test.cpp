// The pools of include/tally under threads, over the core, with libc's malloc beside: so that
// ThreadSanitizer and AddressSanitizer see them too.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <tally/buffer_pool.hpp>
#include <tally/pool.hpp>
#include <tally/resource_pool.hpp>
#include <thread>
#include <utility>
#include <vector>

namespace {

using tally::Tag;

constexpr int kThreads = 4;
constexpr int kRounds = 3000;

template <class Work>
void on_threads(Work work) {
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < kThreads; ++n) threads.emplace_back([&work, n] { work(n); });
  for (std::thread& thread : threads) thread.join();
}

TEST(Pools, ThreadsShareAnObjectPool) {
  struct Object {
    Object(unsigned o, int v) : owner(o), value(v) {}
    unsigned owner;
    int value;
  };
  constexpr size_t kMost = 500;
  const Tag tag = Tag::create("/unit/objects");
  {
    tally::ObjectPool<Object, std::mutex> pool(tag, kMost);
    std::atomic<size_t> live{0}, most{0};
    on_threads([&](unsigned n) {
      std::mt19937 random(n);
      std::deque<Object*> mine;
      for (int i = 0; i < kRounds; ++i) {
        if (Object* object = pool.construct(n, i)) {
          const size_t now = ++live;
          size_t before = most;
          while (before < now && !most.compare_exchange_weak(before, now)) {
          }
          mine.push_back(object);
        } else {
          EXPECT_EQ(errno, ENOSPC);
        }
        while (!mine.empty() && (random() % 3 == 0 || mine.size() > 200)) {
          EXPECT_EQ(mine.front()->owner, n);
          --live;
          pool.destroy(mine.front());
          mine.pop_front();
        }
        if (random() % 100 == 0) pool.trim();
      }
      for (Object* object : mine) {
        --live;
        pool.destroy(object);
      }
    });
    const tally::ObjectPoolStats stats = pool.stats();
    EXPECT_EQ(stats.live, 0u);
    EXPECT_LE(stats.high_water, kMost);
    EXPECT_GE(stats.high_water, most);
    pool.trim();
    EXPECT_EQ(pool.stats().bytes, 0u);
  }
  EXPECT_EQ(tag.stats().own.live_blocks, 0u);
}

TEST(Pools, BuffersGoFromThreadToThreadAndOutliveTheirPool) {
  const Tag tag = Tag::create("/unit/buffers");
  constexpr size_t kBound = 100'000;
  auto pool = std::make_unique<tally::BufferPool>(tag, kBound);
  std::mutex mutex;
  std::deque<tally::Buffer> queue;  // from any to any
  std::atomic<int> running{kThreads};
  std::thread closer([&] {  // the pool goes while buffers are out and come back
    while (running != 0) {
      EXPECT_LE(pool->stats().kept_bytes, kBound);
      std::this_thread::yield();
    }
    EXPECT_EQ(pool->stats().gets, uint64_t{kThreads} * kRounds);
    EXPECT_GT(pool->stats().hits, uint64_t{kRounds});
    pool.reset();
  });
  on_threads([&](unsigned n) {
    std::mt19937 random(n);
    for (int i = 0; i < kRounds; ++i) {
      tally::Buffer buffer = pool->get(random() % 20'000);
      std::memset(buffer.data(), static_cast<int>(n), buffer.size());
      if (random() % 500 == 0) pool->trim();
      const std::lock_guard lock(mutex);
      queue.push_back(std::move(buffer));
      if (queue.size() > 20) queue.pop_front();
    }
    --running;
    const std::lock_guard lock(mutex);
    while (queue.size() > kThreads - 1 - n) queue.pop_back();
  });
  closer.join();
  queue.clear();
  EXPECT_EQ(tag.stats().own.live_blocks, 0u);
}

TEST(Pools, ThreadsShareResourcesThatBreakAndFail) {
  const Tag tag = Tag::create("/unit/resources");
  struct Resource {
    std::atomic<int>& live;
    int users = 0;  // one at a time, without a lock
    explicit Resource(std::atomic<int>& count) : live(count) { EXPECT_LE(++live, 3); }
    ~Resource() { --live; }
  };
  std::atomic<int> live{0};
  std::atomic<unsigned> asked{0};
  uint64_t got = 0, failed = 0, late = 0;
  std::mutex mutex;
  {
    tally::ResourcePool<Resource>::Options options;
    options.create = [&]() -> std::unique_ptr<Resource> {
      if (++asked % 7 == 0) {
        errno = EAGAIN;
        return nullptr;
      }
      return std::make_unique<Resource>(live);
    };
    options.validate = [&](Resource&) { return ++asked % 11 != 0; };
    options.reset = [&](Resource& resource) { return resource.users == 0 && ++asked % 13 != 0; };
    options.min = 1;
    options.max = 3;
    options.lifetime_limit = std::chrono::milliseconds(20);
    tally::ResourcePool<Resource> pool(tag, options);
    on_threads([&](unsigned n) {
      std::mt19937 random(n);
      for (int i = 0; i < kRounds / 3; ++i) {
        auto handle = random() % 2 ? pool.acquire()
                                   : pool.acquire_for(std::chrono::microseconds(random() % 300));
        const int error = errno;
        if (handle) {
          EXPECT_EQ(++handle->users, 1);
          if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
          --handle->users;
          if (random() % 20 == 0) handle.invalidate();
        }
        if (random() % 50 == 0) pool.maintain();
        const std::lock_guard lock(mutex);
        (handle ? got : error == ETIMEDOUT ? late : failed)++;
        EXPECT_TRUE(handle || error == ETIMEDOUT || error == EAGAIN) << error;
      }
    });
    const tally::ResourcePoolStats stats = pool.stats();
    EXPECT_EQ(got + failed + late, uint64_t{kThreads} * (kRounds / 3));
    EXPECT_EQ(stats.timeouts, late);
    EXPECT_GE(stats.failed, failed);
    EXPECT_EQ(stats.active, 0u);
    EXPECT_EQ(stats.waiting, 0u);
    EXPECT_EQ(stats.size, static_cast<size_t>(live.load()));
    EXPECT_EQ(stats.created - stats.discarded, stats.size);
    EXPECT_GT(stats.discarded, 10u);
  }
  EXPECT_EQ(live, 0);
  EXPECT_EQ(tag.stats().own.live_blocks, 0u);
}

TEST(Pools, AResourcePoolGoesWhileThreadsWait) {
  const Tag tag = Tag::create("/unit/closing");
  for (int round = 0; round < 20; ++round) {
    auto pool = std::make_unique<tally::ResourcePool<int>>(
        tag, tally::ResourcePoolOptions<int>{.create = [] { return std::make_unique<int>(1); },
                                             .max = 1});
    tally::ResourcePool<int>::Handle held = pool->acquire();
    std::vector<std::thread> threads;
    for (int n = 0; n < kThreads; ++n) {
      threads.emplace_back([&pool = *pool] {
        EXPECT_FALSE(pool.acquire());
        EXPECT_EQ(errno, ECANCELED);
      });
    }
    while (pool->stats().waiting != kThreads) std::this_thread::yield();
    pool.reset();
    held.reset();
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(tag.stats().own.live_blocks, 0u);
}

}  // namespace
