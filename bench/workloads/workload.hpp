// What the workload programs share: arguments, a fast random generator, blocks that are checked
// when they are freed.
//
// Every program does a fixed amount of work, so that its time can be compared; the patterns are
// those of the field's well-known benchmarks, re-created from what they are known to stress.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "../allocator_check.h"

namespace workload {

// --work=PERCENT of the full amount, --threads=N, --mode=NAME
class Args {
 public:
  Args(int argc, char** argv) {
    require_allocator_from_environment();
    for (int i = 1; i < argc; ++i) {
      const std::string_view arg = argv[i];
      const size_t equals = arg.find('=');
      const std::string_view name = arg.substr(0, equals);
      const char* value = equals == arg.npos ? "" : argv[i] + equals + 1;
      if (name == "--work") {
        percent_ = std::atol(value);
      } else if (name == "--threads") {
        threads_ = std::atoi(value);
      } else if (name == "--mode") {
        mode_ = value;
      } else {
        std::fprintf(stderr, "usage: %s [--work=PERCENT] [--threads=N] [--mode=NAME]\n", argv[0]);
        std::exit(2);
      }
    }
  }
  long work(long full) const { return std::max(1L, full * percent_ / 100); }
  int threads() const { return threads_; }
  std::string_view mode() const { return mode_; }

 private:
  long percent_ = 100;
  int threads_ = 2;
  std::string_view mode_;
};

// splitmix64: a few cycles, no state beyond a counter, the same numbers on every run.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return z ^ (z >> 27);
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>(((next() >> 32) * n) >> 32); }
  uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }
  // Sizes as programs ask for them: each of the `doublings` powers of two from `low` on as likely
  // as the others.
  uint32_t skewed(uint32_t low, uint32_t doublings) {
    const uint32_t base = low << below(doublings);
    return base + below(base);
  }

 private:
  uint64_t state_;
};

// A block whose first and last byte are written when it is allocated and checked when it is freed:
// the memory is touched, and an allocator that hands a block out twice is found.
struct Block {
  unsigned char* bytes = nullptr;
  uint32_t size = 0;

  unsigned char mark() const { return static_cast<unsigned char>(size * 31 + 7); }
};

inline Block allocate(uint32_t size) {
  Block block{static_cast<unsigned char*>(std::malloc(size)), size};
  if (block.bytes == nullptr) std::abort();
  block.bytes[0] = block.bytes[size - 1] = block.mark();
  return block;
}

inline void release(Block& block) {
  if (block.bytes == nullptr) return;
  if (block.bytes[0] != block.mark() || block.bytes[block.size - 1] != block.mark()) {
    std::fprintf(stderr, "workload: a block was overwritten\n");
    std::abort();
  }
  std::free(block.bytes);
  block.bytes = nullptr;
}

// Runs body(index) on n threads and waits for them.
template <typename Body>
void run_threads(int n, Body body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < n; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace workload
