// A batch of small objects, by malloc and free and by what takes back all of a batch at once:
//
//   LD_PRELOAD=libtally.so bench_arena --allocator=tally [Google Benchmark's options]
//
// --allocator as in micro.cpp. Time is per object, its end included: 1,000 objects of 16 to 64
// bytes, the first word of each written, then all are freed, or the arena reset, and so on again.
// `types`: of four types in turn, so that the compiler knows each size; `sizes`: of sizes that are
// known when it runs.
#include <benchmark/benchmark.h>
#include <obstack.h>
#include <tally/tally.h>

#include <array>
#include <cstdlib>
#include <memory_resource>
#include <tally/arena.hpp>
#include <type_traits>

#include "google_benchmark.h"
#include "workloads/workload.hpp"

// Null unless Tally is preloaded.
#pragma weak tally_version
#pragma weak tally_tag_create
#pragma weak tally_arena_create
#pragma weak tally_arena_destroy
#pragma weak tally_arena_alloc_slow
#pragma weak tally_arena_mark
#pragma weak tally_arena_rewind
#pragma weak tally_arena_reset
#pragma weak tally_arena_stats

#define obstack_chunk_alloc malloc
#define obstack_chunk_free free

namespace {

using benchmark::State;

constexpr size_t kObjects = 1000;
constexpr size_t kAlignment = alignof(void*);
constexpr size_t kBufferBytes = 64 << 10;  // more than a batch

const std::array<uint32_t, kObjects> kSizes = [] {
  workload::Random random(1);
  std::array<uint32_t, kObjects> sizes;
  for (uint32_t& size : sizes) size = random.between(16, 64);
  return sizes;
}();

template <class Allocate, class Size>
void make_object(Allocate allocate, Size size) {
  *static_cast<uint32_t*>(allocate(size)) = 1;
}

// allocate(size) for each object, then end() for all of them.
template <class Allocate, class End>
void of_types(State& state, Allocate allocate, End end) {
  for (auto _ : state) {
    for (size_t i = 0; i < kObjects; i += 4) {
      make_object(allocate, std::integral_constant<size_t, 16>());
      make_object(allocate, std::integral_constant<size_t, 24>());
      make_object(allocate, std::integral_constant<size_t, 40>());
      make_object(allocate, std::integral_constant<size_t, 64>());
    }
    benchmark::ClobberMemory();
    end();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kObjects));
}

template <class Allocate, class End>
void of_sizes(State& state, Allocate allocate, End end) {
  for (auto _ : state) {
    for (const size_t size : kSizes) make_object(allocate, size);
    benchmark::ClobberMemory();
    end();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kObjects));
}

enum Kind { kTypes, kSizesOfAnyLength };

template <Kind kind, class Allocate, class End>
void batches(State& state, Allocate allocate, End end) {
  if constexpr (kind == kTypes) {
    of_types(state, allocate, end);
  } else {
    of_sizes(state, allocate, end);
  }
}

template <Kind kind>
void malloc_free(State& state) {
  std::array<void*, kObjects> blocks;
  size_t count = 0;
  batches<kind>(
      state, [&](auto size) { return blocks[count++] = std::malloc(size); },
      [&] {
        for (void* block : blocks) std::free(block);
        count = 0;
      });
}

template <Kind kind>
void tally_arena_alloc_reset(State& state) {
  tally_arena* arena = tally_arena_create(tally_tag_create("bench/arena"), nullptr);
  batches<kind>(
      state, [&](auto size) { return tally_arena_alloc(arena, size, kAlignment); },
      [&] { tally_arena_reset(arena); });
  tally_arena_destroy(arena);
}

// Through the virtual function, as containers do; `release` takes back all.
template <Kind kind, class Resource, class Release>
void in_resource(State& state, Resource& arena, Release release) {
  std::pmr::memory_resource* resource = &arena;
  benchmark::DoNotOptimize(resource);
  batches<kind>(
      state, [&](auto size) { return resource->allocate(size, kAlignment); }, release);
}

template <Kind kind>
void tally_arena_as_pmr(State& state) {
  tally::Arena arena(tally::Tag::create("bench/arena"));
  in_resource<kind>(state, arena, [&] { arena.reset(); });
}

// It gives its chunks back each time, and takes them anew.
template <Kind kind>
void monotonic_resource(State& state) {
  std::pmr::monotonic_buffer_resource monotonic;
  in_resource<kind>(state, monotonic, [&] { monotonic.release(); });
}

// All from a buffer that it was given, to which it goes back: the best that it can do.
template <Kind kind>
void monotonic_resource_in_buffer(State& state) {
  alignas(64) static std::array<std::byte, kBufferBytes> buffer;
  std::pmr::monotonic_buffer_resource monotonic(buffer.data(), buffer.size());
  in_resource<kind>(state, monotonic, [&] { monotonic.release(); });
}

// The C library's own, inline too, with chunks so long that it needs no other.
template <Kind kind>
void obstack_alloc_free(State& state) {
  struct obstack stack;
  obstack_begin(&stack, kBufferBytes);
  obstack_alignment_mask(&stack) = kAlignment - 1;
  void* bottom = obstack_alloc(&stack, 1);
  batches<kind>(
      state, [&](auto size) { return obstack_alloc(&stack, size); },
      [&] {
        obstack_free(&stack, bottom);
        bottom = obstack_alloc(&stack, 1);
      });
  obstack_free(&stack, nullptr);
}

template <Kind kind>
void register_kind(const std::string& suffix) {
  auto add = [&](const char* name, void (*function)(State&)) {
    benchmark::RegisterBenchmark((name + suffix).c_str(), function);
  };
  add("malloc_free", malloc_free<kind>);
  if (tally_version != nullptr) {
    add("tally_arena", tally_arena_alloc_reset<kind>);
    add("tally_arena_pmr", tally_arena_as_pmr<kind>);
  }
  add("monotonic_buffer_resource", monotonic_resource<kind>);
  add("monotonic_buffer_resource_in_buffer", monotonic_resource_in_buffer<kind>);
  add("obstack", obstack_alloc_free<kind>);
}

}  // namespace

int main(int argc, char** argv) {
  return run_benchmarks(argc, argv, [] {
    register_kind<kTypes>("/types");
    register_kind<kSizesOfAnyLength>("/sizes");
  });
}
