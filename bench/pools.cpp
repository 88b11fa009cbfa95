// Pools beside new and delete, and beside Boost's:
//
//   LD_PRELOAD=libtally.so bench_pools [Google Benchmark's options]
//
// The heap below all of them is Tally, which must be live. Time is per object or buffer, made and
// given back.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <boost/pool/object_pool.hpp>
#include <boost/pool/pool_alloc.hpp>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <tally/buffer_pool.hpp>
#include <tally/pool.hpp>
#include <thread>
#include <vector>

#include "google_benchmark.h"
#include "workloads/workload.hpp"

// Found in the library that is preloaded.
#pragma weak tally_tag_create
#pragma weak tally_malloc
#pragma weak tally_aligned_alloc
#pragma weak tally_free

namespace {

using benchmark::State;

using Source = tally::NamedTag<"bench/pools">;

struct Object {
  explicit Object(int64_t v) : value(v) {}
  int64_t value;
  void* links[5];
};
static_assert(sizeof(Object) == 48);

constexpr size_t kMost = 1 << 20;

// ---- Ways to make an object and to give it back

struct New {
  Object* make(int64_t value) { return new Object(value); }
  void give(Object* object) { delete object; }
};

template <class Lock>
struct Pool {
  Object* make(int64_t value) { return pool.construct(value); }
  void give(Object* object) { pool.destroy(object); }
  tally::ObjectPool<Object, Lock> pool{Source::tag(), kMost};
};

// Its destroy keeps the free list in order, and looks for the place.
struct BoostObjectPool {
  Object* make(int64_t value) { return pool.construct(value); }
  void give(Object* object) { pool.destroy(object); }
  boost::object_pool<Object, tally::BoostUserAllocator<Source>> pool;
};

// One pool for all objects of a size in the program.
template <class Mutex>
struct BoostFastAllocator {
  using Allocator =
      boost::fast_pool_allocator<Object, tally::BoostUserAllocator<Source>, Mutex, 32>;
  Object* make(int64_t value) { return ::new (Allocator::allocate()) Object(value); }
  void give(Object* object) {
    object->~Object();
    Allocator::deallocate(object);
  }
};
using BoostFast = BoostFastAllocator<boost::details::pool::null_mutex>;
using BoostFastShared = BoostFastAllocator<boost::details::pool::default_mutex>;

void items(State& state, int64_t per_iteration) {
  state.SetItemsProcessed(state.iterations() * per_iteration);
}

// One object at a time. Threads share the pool.
template <class Way>
void one(State& state) {
  static Way* way;
  if (state.thread_index() == 0) way = new Way;
  for (auto _ : state) {
    Object* object = way->make(1);
    benchmark::DoNotOptimize(object->value);
    way->give(object);
  }
  items(state, 1);
  if (state.thread_index() == 0) delete way;
}

// So many are made, and given back in another order.
template <class Way>
void batch(State& state) {
  static Way* way;
  if (state.thread_index() == 0) way = new Way;
  const auto count = static_cast<uint32_t>(state.range(0));
  std::vector<Object*> objects(count);
  std::vector<uint32_t> sequence(count);
  std::iota(sequence.begin(), sequence.end(), 0U);
  workload::Random random(1);
  for (uint32_t& at : sequence) std::swap(at, sequence[random.below(count)]);
  for (auto _ : state) {
    for (Object*& object : objects) {
      object = way->make(1);
      benchmark::DoNotOptimize(object->value);
    }
    for (const uint32_t at : sequence) way->give(objects[at]);
  }
  items(state, count);
  if (state.thread_index() == 0) delete way;
}

#define TALLY_BENCH_WAY(way)    \
  BENCHMARK_TEMPLATE(one, way); \
  BENCHMARK_TEMPLATE(batch, way)->Arg(1000)->ArgName("count")
#define TALLY_BENCH_SHARED_WAY(way)                        \
  BENCHMARK_TEMPLATE(one, way)->UseRealTime()->Threads(2); \
  BENCHMARK_TEMPLATE(batch, way)->Arg(1000)->ArgName("count")->UseRealTime()->Threads(2)

TALLY_BENCH_WAY(New);
TALLY_BENCH_WAY(Pool<tally::NoLock>);
TALLY_BENCH_WAY(Pool<std::mutex>);
TALLY_BENCH_WAY(BoostObjectPool);
TALLY_BENCH_WAY(BoostFast);
TALLY_BENCH_WAY(BoostFastShared);
TALLY_BENCH_SHARED_WAY(New);
TALLY_BENCH_SHARED_WAY(Pool<std::mutex>);
TALLY_BENCH_SHARED_WAY(BoostFastShared);

// ---- Buffers

struct Malloc {
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  struct Held {
    std::unique_ptr<std::byte[], Free> bytes;
    std::byte* data() const { return bytes.get(); }
  };
  Held get(size_t size) { return {{static_cast<std::byte*>(std::malloc(size)), {}}}; }
};

struct Buffers {
  tally::Buffer get(size_t size) { return pool.get(size); }
  tally::BufferPool pool{Source::tag(), 64 << 20};
};

// Sixteen buffers of sizes up to `most` are held, one after the other is replaced; each page of it
// is written to.
template <class Way>
void buffers(State& state) {
  constexpr size_t kHeld = 16;
  static Way* way;
  if (state.thread_index() == 0) way = new Way;
  const auto most = static_cast<uint32_t>(state.range(0));
  {
    workload::Random random(static_cast<uint64_t>(state.thread_index()) + 1);
    std::vector<decltype(way->get(0))> held(kHeld);
    size_t at = 0;
    const auto replace_one = [&] {
      const size_t size = random.between(most / 2, most);
      auto buffer = way->get(size);
      for (size_t page = 0; page < size; page += 4096) buffer.data()[page] = std::byte{1};
      held[at++ % kHeld] = std::move(buffer);
    };
    for (size_t n = 0; n < 2 * kHeld; ++n) replace_one();  // the first ones are new to all
    for (auto _ : state) replace_one();
  }
  items(state, 1);
  if (state.thread_index() == 0) delete way;
}
BENCHMARK_TEMPLATE(buffers, Malloc)->RangeMultiplier(16)->Range(256, 16 << 20)->ArgName("most");
BENCHMARK_TEMPLATE(buffers, Buffers)->RangeMultiplier(16)->Range(256, 16 << 20)->ArgName("most");

}  // namespace

int main(int argc, char** argv) {
  require_allocator("tally");
  return run_benchmarks(argc, argv, [] {});
}
