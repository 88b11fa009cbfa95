// Figures that any thread changes: with the highest they ever were, and with a limit.
#pragma once

#include <atomic>
#include <cstdint>

namespace tally::core {

inline void raise_to(std::atomic<uint64_t>& peak, uint64_t value) {
  uint64_t high = peak.load(std::memory_order_relaxed);
  while (value > high && !peak.compare_exchange_weak(high, value, std::memory_order_relaxed)) {
  }
}

struct Gauge {
  std::atomic<uint64_t> now{0};
  std::atomic<uint64_t> peak{0};

  void add(uint64_t n) { raise_to(peak, now.fetch_add(n, std::memory_order_relaxed) + n); }
  void sub(uint64_t n) { now.fetch_sub(n, std::memory_order_release); }
};

// Bytes that are held, which are never more than a limit, not for an instant: take() asks for the
// limit and adds in one step. A limit that changes meanwhile makes the step fail, as it changes the
// word too: once set_limit has returned, what is held grows only below the new limit. (Model:
// tests/model/limit_model.cpp.)
class Account {
 public:
  // Far more than any machine has, and sums of what is held and asked do not overflow.
  static constexpr uint64_t kNoLimit = uint64_t{1} << 46;

  // False: there would be more than the limit; nothing is changed. Else *held is what there is
  // then. The last bytes below the limit, its reserve, are only for who may draw on it.
  bool take(uint64_t n, bool may_draw, uint64_t* held) {
    if (n > kNoLimit) return false;
    uint64_t word = word_.load(std::memory_order_acquire);
    do {
      // After the word: if that is from after a change, so is this.
      const std::atomic<uint64_t>& limit = may_draw ? limit_ : ordinary_;
      *held = (word & kHeldMask) + n;
      if (*held > limit.load(std::memory_order_relaxed)) return false;
    } while (!word_.compare_exchange_weak(word, word + n, std::memory_order_seq_cst));
    return true;
  }
  // Returns what is left.
  uint64_t give(uint64_t n) {
    return (word_.fetch_sub(n, std::memory_order_seq_cst) - n) & kHeldMask;
  }
  bool fits(uint64_t n) const {
    return n <= kNoLimit && held() + n <= ordinary_.load(std::memory_order_relaxed);
  }
  void note_peak(uint64_t held) { raise_to(peak_, held); }

  uint64_t held() const { return word_.load(std::memory_order_seq_cst) & kHeldMask; }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }
  uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  // Without the reserve.
  uint64_t ordinary_limit() const { return ordinary_.load(std::memory_order_relaxed); }
  // What may be taken still, without the reserve.
  uint64_t room() const {
    uint64_t now = held(), most = ordinary_.load(std::memory_order_relaxed);
    return most > now ? most - now : 0;
  }
  // One thread at a time. `limit` is at most kNoLimit, `reserve` at most that.
  void set_limit(uint64_t limit, uint64_t reserve) {
    limit_.store(limit, std::memory_order_relaxed);
    ordinary_.store(limit - reserve, std::memory_order_relaxed);
    word_.fetch_add(kHeldMask + 1, std::memory_order_acq_rel);
  }
  // Nobody else knows it.
  void reset() {
    word_.store(0, std::memory_order_relaxed);
    peak_.store(0, std::memory_order_relaxed);
    set_limit(kNoLimit, 0);
  }

 private:
  static constexpr uint64_t kHeldMask = (uint64_t{1} << 48) - 1;

  std::atomic<uint64_t> word_{0};  // held, and above it how often the limit was changed
  std::atomic<uint64_t> limit_{kNoLimit};
  std::atomic<uint64_t> ordinary_{kNoLimit};  // without the reserve
  std::atomic<uint64_t> peak_{0};
};

}  // namespace tally::core
