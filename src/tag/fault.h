// Failures that the user asked for, to test his own error paths. One for all tags below the one
// that it was asked for.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tally::core {

struct Fault {
  uint64_t nth = 0;                // const: this allocation fails; 0: none by number
  uint64_t above = UINT64_MAX;     // const: those of more bytes fail
  uint64_t odds = 0;               // const: so many of 2^64 fail
  uint64_t seed = 0;               // const
  std::atomic<uint64_t> count{0};  // any: allocations so far

  // Whether the next allocation, of so many bytes, is to fail. Which of them do depends on their
  // number alone.
  bool strikes(size_t bytes) {
    uint64_t number = count.fetch_add(1, std::memory_order_relaxed) + 1;
    if (number == nth || bytes > above) return true;
    // SplitMix64 (Steele, Lea, Flood 2014).
    uint64_t x = seed + number * 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return (x ^ x >> 31) < odds;
  }
};

}  // namespace tally::core
