// When the system last took back nothing that it was asked to (locked memory, a filter): it is
// asked again after a delay, not at every step. Any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/math.h"
#include "base/options.h"

namespace tally::core {

// What was used or refused less than so long ago is left alone.
inline uint64_t retry_ms() { return max_of(options.purge_ms, 100); }

class Refusal {
 public:
  void note(uint64_t now) { at_.store(now, std::memory_order_relaxed); }
  bool is_recent(uint64_t now) const {
    uint64_t at = at_.load(std::memory_order_relaxed);
    return at != 0 && now < at + retry_ms();
  }

 private:
  std::atomic<uint64_t> at_{0};  // ms; 0: never
};

}  // namespace tally::core
