// A figure and the highest it ever was. Any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace tally::core {

struct Gauge {
  std::atomic<uint64_t> now{0};
  std::atomic<uint64_t> peak{0};

  void add(uint64_t n) {
    uint64_t value = now.fetch_add(n, std::memory_order_relaxed) + n;
    uint64_t high = peak.load(std::memory_order_relaxed);
    while (value > high && !peak.compare_exchange_weak(high, value, std::memory_order_relaxed)) {
    }
  }
  void sub(uint64_t n) { now.fetch_sub(n, std::memory_order_release); }
};

}  // namespace tally::core
