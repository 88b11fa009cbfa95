// How long single calls of malloc and free take, up to the slowest. Two threads, each with 20,000
// blocks that are replaced at random; sizes from 16 bytes to 16 KiB, one in a thousand up to 1 MiB;
// one block in 16 is freed by the other thread.
//
// The slowest calls include preemption: on a shared machine the maximum is mostly other processes',
// and only the smallest of many runs says something about the allocator. Pages are touched outside
// of what is timed, so that a page fault counts only where the allocator itself takes it.
#include <bit>

#include "channel.hpp"
#include "report.hpp"
#include "workload.hpp"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

using namespace workload;

namespace {

constexpr int kThreads = 2;
constexpr uint32_t kBlocks = 20000;

#if defined(__x86_64__)
// Waits for the instructions before it; the fence keeps those after it from starting early.
inline uint64_t ticks() {
  unsigned processor;
  const uint64_t now = __rdtscp(&processor);
  _mm_lfence();
  return now;
}
#else
inline uint64_t ticks() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}
#endif

// Counts by size, 16 buckets to a doubling.
class Histogram {
 public:
  void add(uint64_t value) {
    ++counts_[bucket(value)];
    ++total_;
    largest_ = std::max(largest_, value);
  }
  void add(const Histogram& other) {
    for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    largest_ = std::max(largest_, other.largest_);
  }
  // At most that many are larger.
  uint64_t quantile(double part) const {
    const double wanted = part * static_cast<double>(total_);
    double seen = 0;
    for (size_t i = 0; i < kBuckets; ++i) {
      seen += static_cast<double>(counts_[i]);
      if (seen >= wanted) return std::min(middle(i), largest_);
    }
    return largest_;
  }
  uint64_t largest() const { return largest_; }

 private:
  static constexpr size_t kBuckets = 64 * 16;
  // Values under 16 have a bucket each; above, the highest bit and the four below it.
  static size_t bucket(uint64_t value) {
    if (value < 16) return value;
    const int shift = std::bit_width(value) - 5;
    return static_cast<size_t>(shift + 1) * 16 + ((value >> shift) & 15);
  }
  static uint64_t middle(size_t i) {
    if (i < 16) return i;
    const size_t shift = i / 16 - 1;
    return ((16 + i % 16) << shift) + ((uint64_t{1} << shift) >> 1);
  }

  uint64_t counts_[kBuckets] = {};
  uint64_t total_ = 0;
  uint64_t largest_ = 0;
};

Histogram of_malloc[kThreads], of_free[kThreads];
Channel to_other[kThreads];

uint32_t some_size(Random& random) {
  return random.below(1000) == 0 ? random.between(64 << 10, 1 << 20) : random.skewed(16, 10);
}

// Writes to every page, as programs do.
void* touch(void* p, size_t size) {
  if (p == nullptr) std::abort();
  for (size_t at = 0; at < size; at += 4096) static_cast<volatile char*>(p)[at] = 1;
  return p;
}

void* timed_malloc(size_t size, Histogram& times) {
  const uint64_t start = ticks();
  void* p = std::malloc(size);
  times.add(ticks() - start);
  return touch(p, size);
}

void timed_free(void* p, Histogram& times) {
  const uint64_t start = ticks();
  std::free(p);
  times.add(ticks() - start);
}

void work(int index, long operations) {
  Histogram& mallocs = of_malloc[index];
  Histogram& frees = of_free[index];
  Random random(static_cast<uint64_t>(index) + 1);
  std::vector<void*> blocks(kBlocks);
  for (void*& block : blocks) {
    const uint32_t size = some_size(random);
    block = touch(std::malloc(size), size);
  }
  uint64_t sent = 0, taken = 0;
  Channel& outgoing = to_other[index];
  Channel& incoming = to_other[(index + 1) % kThreads];
  for (long i = 0; i < operations; ++i) {
    void*& block = blocks[random.below(kBlocks)];
    if (random.below(16) == 0 && outgoing.try_put(sent, block)) {
      ++sent;
    } else {
      timed_free(block, frees);
    }
    block = timed_malloc(some_size(random), mallocs);
    if (void* p = incoming.try_take(taken)) {
      ++taken;
      timed_free(p, frees);
    }
  }
  for (void* block : blocks) std::free(block);
}

// The median of what the timing itself takes.
uint64_t overhead() {
  Histogram times;
  for (int i = 0; i < 10000; ++i) {
    const uint64_t start = ticks();
    times.add(ticks() - start);
  }
  return times.quantile(.5);
}

void report_all(const char* name, const Histogram& times, uint64_t empty, double ns_per_tick) {
  const auto say = [&](const char* point, uint64_t value) {
    report(name, point, "ns", static_cast<double>(value - std::min(value, empty)) * ns_per_tick);
  };
  say("median", times.quantile(.5));
  say("99 %", times.quantile(.99));
  say("99.9 %", times.quantile(.999));
  say("99.99 %", times.quantile(.9999));
  say("maximum", times.largest());
}

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  const long operations = args.work(3000000);
  const uint64_t empty = overhead();
  const Clock clock;
  const uint64_t start = ticks();
  run_threads(kThreads, [&](int index) { work(index, operations); });
  const double ns_per_tick = clock.seconds() * 1e9 / static_cast<double>(ticks() - start);
  for (int i = 1; i < kThreads; ++i) {
    of_malloc[0].add(of_malloc[i]);
    of_free[0].add(of_free[i]);
  }
  report_all("malloc", of_malloc[0], empty, ns_per_tick);
  report_all("free", of_free[0], empty, ns_per_tick);
}
