// A server that reads requests and writes answers, each in a buffer of its own size: with a pool of
// buffers the heap hardly notices. The same work is done without the pool and with it, and Tally
// counts the allocations of each.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <random>
#include <tally/buffer_pool.hpp>
#include <thread>
#include <vector>

namespace {

constexpr unsigned kThreads = 4;
constexpr int kRequests = 5'000;  // of each thread
constexpr size_t kKept = 8 << 20;

// Reads a request, and answers it. get(size) gives a buffer, which goes as it ends.
template <class Get>
uint64_t serve(Get get, unsigned seed) {
  std::mt19937 random(seed);
  uint64_t sum = 0;
  for (int i = 0; i < kRequests; ++i) {
    auto request = get(200 + random() % 4000);
    std::memset(request.data(), i, request.size());
    auto answer = get(request.size() * (1 + random() % 10));
    std::memset(answer.data(), static_cast<int>(request.data()[0]) + 1, answer.size());
    sum += static_cast<uint64_t>(answer.data()[answer.size() - 1]);
  }
  return sum;
}

template <class Get>
uint64_t serve_on_threads(Get get) {
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> threads;
  for (unsigned n = 0; n < kThreads; ++n) threads.emplace_back([&, n] { sum += serve(get, n); });
  for (std::thread& thread : threads) thread.join();
  return sum;
}

bool holds(bool condition, const char* what) {
  if (!condition) std::cout << "NOT SO: " << what << '\n';
  return condition;
}

}  // namespace

int main() {
  const tally::Tag plain = tally::Tag::create("/server/plain");
  const tally::Tag pooled = tally::Tag::create("/server/pooled");
  using Bytes = std::vector<std::byte, tally::Allocator<std::byte>>;
  const uint64_t without = serve_on_threads([&](size_t size) { return Bytes(size, plain); });

  uint64_t with;
  tally::BufferPoolStats stats;
  {
    tally::BufferPool pool(pooled, kKept);
    with = serve_on_threads([&](size_t size) { return pool.get(size); });
    stats = pool.stats();
  }

  const uint64_t before = plain.stats().own.alloc_count, after = pooled.stats().own.alloc_count;
  std::cout << stats.gets << " buffers: " << before << " heap allocations without a pool, " << after
            << " with it, " << (before - after) * 1000 / before / 10.0 << " % fewer\n"
            << "the pool avoided " << stats.hits << ", and kept " << stats.kept_bytes / 1024
            << " KiB in " << stats.kept_buffers << " buffers at the end\n";

  bool ok = holds(with == without, "the answers are the same");
  ok &= holds(after * 5 <= before, "the heap is asked at least 80 % less often");
  ok &= holds(stats.gets - stats.hits + 1 == after, "what the pool says of itself is so");
  ok &= holds(stats.kept_bytes <= kKept, "it keeps no more than it may");
  ok &= holds(pooled.stats().own.live_bytes == 0, "all of it goes back at the end");
  return ok ? 0 : 1;
}
