// Counters that one thread writes and any thread reads. The writer never uses a lock prefix.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/config.h"

namespace tally::core {

// GCC compiles a relaxed load, add and store to three instructions; the fast path affords one.
class OwnerCounter {
 public:
  void add(uint64_t n) {
    if constexpr (kSingleInstructionCounters) {
      asm("addq %1, %0" : "+m"(value_) : "er"(n));
    } else {
      value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
  }
  void sub(uint64_t n) { set(get() - n); }
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// A word that its owner writes while others may look: they see an old value or the new one.
template <class T>
class Relaxed {
 public:
  constexpr Relaxed(T value = {}) : value_(value) {}
  operator T() const { return value_.load(std::memory_order_relaxed); }
  Relaxed& operator=(T value) {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }

 private:
  std::atomic<T> value_;
};

// Steps that move counts from one place to another: who adds both up looks whether there was one
// meanwhile, and reads again. Any number of writers; nobody waits.
class Moves {
 public:
  void begin() {
    begun_.fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
  }
  void end() { ended_.fetch_add(1, std::memory_order_release); }
  uint64_t ended() const { return ended_.load(std::memory_order_acquire); }
  // No writer is left, as in a forked child.
  void reset() { begun_.store(ended(), std::memory_order_relaxed); }
  bool is_under_way() const { return begun_.load(std::memory_order_relaxed) != ended(); }
  // None began since `ended` was that, or was going on then.
  bool none_since(uint64_t ended) const {
    std::atomic_thread_fence(std::memory_order_acquire);
    return begun_.load(std::memory_order_relaxed) == ended;
  }

 private:
  std::atomic<uint64_t> begun_{0}, ended_{0};
};

// A countdown to the slab's next event, and the number of blocks that are still out when it comes.
// Both in one word, so that a reader sees `out = countdown + floor` of one moment.
class Level {
 public:
  // Owner. One block came back; true if that was the event. Release: who reads the new level sees
  // the block's link.
  bool count_down() {
    if constexpr (kSingleInstructionCounters) {
      bool zero;
      asm("subl $1, %0" : "+m"(word_), "=@ccz"(zero) : : "memory");
      return zero;
    } else {
      uint64_t word = word_.load(std::memory_order_relaxed) - 1;
      word_.store(word, std::memory_order_release);
      return static_cast<uint32_t>(word) == 0;
    }
  }
  // Owner. `floor` blocks out are the next event.
  void set(uint32_t out, uint32_t floor) {
    word_.store(uint64_t{floor} << 32 | (out - floor), std::memory_order_release);
  }
  // Any thread. Blocks out: handed to heaps and not back on the slab's own list.
  uint32_t out() const {
    uint64_t word = word_.load(std::memory_order_acquire);
    return static_cast<uint32_t>(word) + static_cast<uint32_t>(word >> 32);
  }
  uint32_t floor() const { return word_.load(std::memory_order_relaxed) >> 32; }

 private:
  std::atomic<uint64_t> word_{0};
};

}  // namespace tally::core
