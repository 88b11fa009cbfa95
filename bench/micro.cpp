// Microbenchmarks of each operation, for any malloc:
//
//   LD_PRELOAD=libtally.so bench_micro --allocator=tally [Google Benchmark's options]
//
// --allocator (or BENCH_ALLOCATOR) is what must be live, see allocator_check.h; without it the live
// one is only shown. Time is per operation (malloc and free together where both are done) unless a
// name says otherwise.
#include <benchmark/benchmark.h>
#include <tally/tally.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "google_benchmark.h"
#include "workloads/channel.hpp"
#include "workloads/workload.hpp"

// Null unless Tally is preloaded.
#pragma weak tally_tag_create
#pragma weak tally_tag_push
#pragma weak tally_tag_pop
#pragma weak tally_snapshot
#pragma weak tally_snapshot_free
#pragma weak tally_limit_set
#pragma weak tally_pressure
#pragma weak tally_charge
#pragma weak tally_uncharge
#pragma weak tally_malloc
#pragma weak tally_free

namespace {

using benchmark::State;
using workload::Channel;
using workload::Random;

void* touch(void* p) {
  if (p == nullptr) std::abort();
  *static_cast<volatile char*>(p) = 1;
  return p;
}

void items(State& state, int64_t per_iteration) {
  state.SetItemsProcessed(state.iterations() * per_iteration);
}

// Two threads, and four where there are as many CPUs: a thread's time begins when it first runs, so
// that threads which wait for a CPU would seem fast.
void in_threads(benchmark::internal::Benchmark* benchmark) {
  benchmark->UseRealTime()->Threads(2);
  if (std::thread::hardware_concurrency() >= 4) benchmark->Threads(4);
}

// ---- One block at a time

void pair(State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  for (auto _ : state) std::free(touch(std::malloc(size)));
  items(state, 1);
}
BENCHMARK(pair)
    ->RangeMultiplier(8)
    ->Range(8, 1 << 20)
    ->Arg(16)
    ->Arg(256)
    ->Arg(1024)
    ->ArgName("size");
BENCHMARK(pair)->Arg(16)->Arg(256)->Arg(4096)->Apply(in_threads)->ArgName("size");

void new_sized_delete(State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  for (auto _ : state) ::operator delete(touch(::operator new(size)), size);
  items(state, 1);
}
BENCHMARK(new_sized_delete)->Arg(16)->Arg(64)->Arg(1024)->ArgName("size");

void aligned_new(State& state) {
  const auto alignment = static_cast<std::align_val_t>(state.range(0));
  const auto size = static_cast<size_t>(state.range(1));
  for (auto _ : state) {
    ::operator delete(touch(::operator new(size, alignment)), size, alignment);
  }
  items(state, 1);
}
BENCHMARK(aligned_new)->Args({64, 64})->Args({64, 200})->ArgNames({"alignment", "size"});

void zeroed(State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  for (auto _ : state) std::free(touch(std::calloc(1, size)));
  items(state, 1);
}
BENCHMARK(zeroed)->Arg(16)->Arg(256)->Arg(4096)->Arg(64 << 10)->Arg(1 << 20)->ArgName("size");

void aligned(State& state) {
  const auto alignment = static_cast<size_t>(state.range(0));
  const auto size = static_cast<size_t>(state.range(1));
  for (auto _ : state) {
    void* p = nullptr;
    if (posix_memalign(&p, alignment, size) != 0) std::abort();
    std::free(touch(p));
  }
  items(state, 1);
}
BENCHMARK(aligned)
    ->Args({32, 48})
    ->Args({64, 64})
    ->Args({64, 200})
    ->Args({4096, 4096})
    ->Args({65536, 100})
    ->ArgNames({"alignment", "size"});

// ---- Batches: alloc n, free n

enum Order { kSame, kReverse, kRandom };

void batch(State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  const auto order = static_cast<Order>(state.range(1));
  const auto count = static_cast<size_t>(state.range(2));
  std::vector<void*> blocks(count);
  std::vector<uint32_t> sequence(count);
  std::iota(sequence.begin(), sequence.end(), 0u);
  if (order == kReverse) std::reverse(sequence.begin(), sequence.end());
  if (order == kRandom) {
    Random random(1);
    for (uint32_t& at : sequence)
      std::swap(at, sequence[random.below(static_cast<uint32_t>(count))]);
  }
  for (auto _ : state) {
    for (void*& block : blocks) block = touch(std::malloc(size));
    for (const uint32_t at : sequence) std::free(blocks[at]);
  }
  items(state, state.range(2));
  state.SetLabel(order == kSame      ? "same order"
                 : order == kReverse ? "reverse order"
                                     : "random order");
}
BENCHMARK(batch)
    ->ArgsProduct({{16, 128, 1024, 16 << 10}, {kSame, kReverse, kRandom}, {1000}})
    ->ArgNames({"size", "order", "count"});
BENCHMARK(batch)
    ->ArgsProduct({{64}, {kSame, kRandom}, {100000}})
    ->ArgNames({"size", "order", "count"});
BENCHMARK(batch)
    ->Args({64, kRandom, 1000})
    ->Apply(in_threads)
    ->ArgNames({"size", "order", "count"});

// Blocks of changing sizes through small arrays, as glibc's own benchmark does.
void simple(State& state) {
  constexpr size_t kCount = 400;
  void* blocks[kCount];
  for (auto _ : state) {
    for (size_t size = 16; size <= 2048; size *= 2) {
      for (void*& block : blocks) block = touch(std::malloc(size));
      for (void* block : blocks) std::free(block);
    }
  }
  items(state, 8 * kCount);
}
BENCHMARK(simple);

// ---- Many live blocks, one replaced at random

void replace(State& state) {
  const auto live = static_cast<uint32_t>(state.range(0));
  Random random(1);
  std::vector<void*> blocks(live);
  for (void*& block : blocks) block = touch(std::malloc(random.skewed(16, 6)));
  for (auto _ : state) {
    void*& block = blocks[random.below(live)];
    std::free(block);
    block = touch(std::malloc(random.skewed(16, 6)));
  }
  for (void* block : blocks) std::free(block);
  items(state, 1);
}
BENCHMARK(replace)->Arg(1000)->Arg(100000)->Arg(1000000)->ArgName("live");

// ---- Growing by realloc, from 16 bytes, by half each time

void grow(State& state) {
  const auto limit = static_cast<size_t>(state.range(0));
  int64_t steps = 0;
  for (auto _ : state) {
    void* p = nullptr;
    for (size_t size = 16; size <= limit; size += size / 2) {
      p = touch(std::realloc(p, size));
      ++steps;
    }
    std::free(p);
  }
  state.SetItemsProcessed(steps);
}
BENCHMARK(grow)->Arg(4 << 10)->Arg(256 << 10)->Arg(16 << 20)->Arg(128 << 20)->ArgName("limit");

// ---- realloc to another size and back

void resize(State& state) {
  const auto low = static_cast<size_t>(state.range(0));
  const auto high = static_cast<size_t>(state.range(1));
  void* p = touch(std::malloc(low));
  for (auto _ : state) {
    p = touch(std::realloc(p, high));
    p = touch(std::realloc(p, low));
  }
  std::free(p);
  items(state, 2);
}
BENCHMARK(resize)
    ->Args({100, 105})
    ->Args({100, 1000})
    ->Args({10000, 100000})
    ->Args({1 << 20, 4 << 20})
    ->ArgNames({"low", "high"});

// ---- Blocks that one thread allocates and another frees: even threads produce, odd ones consume

Channel channels[2];

void remote_free(State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  Channel& channel = channels[state.thread_index() / 2];
  const bool producer = state.thread_index() % 2 == 0;
  uint64_t at = 0;
  for (auto _ : state) {  // every thread runs the same number of iterations
    if (producer) {
      channel.put(at++, touch(std::malloc(size)));
    } else {
      std::free(channel.take(at++));
    }
  }
  if (producer) items(state, 1);
}
BENCHMARK(remote_free)->Arg(16)->Arg(256)->Arg(4096)->Apply(in_threads)->ArgName("size");

// ---- Tags

void scope_push_pop(State& state) {
  const tally_tag tag = tally_tag_create("bench/scope");
  for (auto _ : state) {
    if (tally_tag_push(tag) != 0 || tally_tag_pop() != 0) std::abort();
  }
  items(state, 1);
}

void pair_in_scopes(State& state) {
  std::vector<tally_tag> tags;
  for (int i = 0; i < state.range(0); ++i) {
    tags.push_back(tally_tag_create(("bench/scopes/" + std::to_string(i)).c_str()));
  }
  size_t at = 0;
  for (auto _ : state) {
    tally_tag_push(tags[at++ % tags.size()]);
    void* p = touch(std::malloc(16));
    tally_tag_pop();
    std::free(p);
  }
  items(state, 1);
}

// ---- Limits

tally_tag limited_tag(const char* path, uint64_t hard) {
  const tally_tag tag = tally_tag_create(path);
  if (tally_limit_set(tag, TALLY_LIMIT_NONE, hard, TALLY_POLICY_FAIL) != 0) std::abort();
  return tag;
}

// As a loop that sheds load asks, three levels deep.
void pressure(State& state) {
  const tally_tag tag = limited_tag("bench/limit/far", uint64_t{1} << 40);
  for (auto _ : state) benchmark::DoNotOptimize(tally_pressure(tag));
  items(state, 1);
}

// An allocation that a full tag's limit refuses.
void refused(State& state) {
  const auto size = static_cast<size_t>(state.range(0));
  const tally_tag tag = limited_tag("bench/limit/full", 1 << 20);
  std::vector<void*> blocks;
  while (void* p = tally_malloc(tag, 500)) blocks.push_back(p);
  while (void* p = tally_malloc(tag, size)) blocks.push_back(p);
  for (auto _ : state) {
    if (tally_malloc(tag, size) != nullptr) state.SkipWithError("not refused");
  }
  items(state, 1);
  for (void* block : blocks) tally_free(block);
}

// Memory that is charged, to three accounts, and uncharged: with no limit near, and with none.
void charge(State& state) {
  const bool has_limit = state.range(0) != 0;
  const tally_tag tag = limited_tag(has_limit ? "bench/charge/far" : "bench/charge/none",
                                    has_limit ? uint64_t{1} << 40 : TALLY_LIMIT_NONE);
  for (auto _ : state) {
    if (tally_charge(tag, 4096) != 0 || tally_uncharge(tag, 4096) != 0) std::abort();
  }
  items(state, 1);
}

// The exact walk over so many MiB of blocks of about 128 bytes, under 16 tags.
void snapshot(State& state) {
  const auto mib = static_cast<size_t>(state.range(0));
  Random random(1);
  std::vector<void*> blocks;
  blocks.reserve(mib << 13);
  for (int tag = 0; tag < 16; ++tag) {
    tally_tag_push(tally_tag_create(("bench/snapshot/" + std::to_string(tag)).c_str()));
    for (size_t bytes = 0; bytes < mib << 16;) {
      const uint32_t size = random.between(16, 240);
      blocks.push_back(touch(std::malloc(size)));
      bytes += size;
    }
    tally_tag_pop();
  }
  for (auto _ : state) {
    tally_snapshot_t* all = tally_snapshot();
    if (all == nullptr || all->process.live_bytes < mib << 20)
      state.SkipWithError("wrong snapshot");
    tally_snapshot_free(all);
  }
  items(state, 1);
  for (void* block : blocks) std::free(block);
}

void register_tag_benchmarks() {
  benchmark::RegisterBenchmark("scope_push_pop", scope_push_pop);
  benchmark::RegisterBenchmark("pair_in_scopes", pair_in_scopes)->Arg(1)->Arg(32)->ArgName("tags");
  benchmark::RegisterBenchmark("pressure", pressure);
  benchmark::RegisterBenchmark("refused", refused)->Arg(100)->Arg(1 << 20)->ArgName("size");
  benchmark::RegisterBenchmark("charge", charge)->Arg(0)->Arg(1)->ArgName("limit");
  benchmark::RegisterBenchmark("snapshot", snapshot)
      ->Arg(64)
      ->Arg(1024)
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmarks(argc, argv, [] {
    if (tally_tag_create != nullptr && tally_snapshot != nullptr) register_tag_benchmarks();
  });
}
