// A lock of one word that sleeps in the kernel, so that a waiter with real-time priority lets the
// holder run.
#pragma once

#include <atomic>
#include <cstdint>

#include "os/os.h"

namespace tally::core {

class Lock {
 public:
  void acquire() {
    uint32_t free = kFree;
    if (!state_.compare_exchange_strong(free, kHeld, std::memory_order_acquire)) acquire_slow();
    holder_.store(me(), std::memory_order_relaxed);
  }
  bool try_acquire() {
    uint32_t free = kFree;
    if (!state_.compare_exchange_strong(free, kHeld, std::memory_order_acquire)) return false;
    holder_.store(me(), std::memory_order_relaxed);
    return true;
  }
  void release() {
    if (all_held_by_me()) return;
    holder_.store(nullptr, std::memory_order_relaxed);
    if (state_.exchange(kFree, std::memory_order_release) == kContended) {
      os::futex_wake_one(&state_);
    }
  }
  // While a fork is prepared one thread holds every lock, and other libraries' handlers may
  // allocate on it: its acquire and release have nothing to do.
  static void hold_all(bool on) {
    all_holder_.store(on ? me() : nullptr, std::memory_order_relaxed);
  }
  // For fork in a signal handler that interrupted the holder.
  bool held_by_me() const { return holder_.load(std::memory_order_relaxed) == me(); }
  // In the child of a fork, where who waited no longer exists.
  void reset() {
    holder_.store(nullptr, std::memory_order_relaxed);
    state_.store(kFree, std::memory_order_relaxed);
  }

 private:
  static constexpr uint32_t kFree = 0, kHeld = 1, kContended = 2;

  // Distinct for each thread that runs: its thread control block.
  static const void* me() { return __builtin_thread_pointer(); }

  static bool all_held_by_me() {
    const void* holder = all_holder_.load(std::memory_order_relaxed);
    return holder != nullptr && holder == me();
  }

  void acquire_slow() {
    if (all_held_by_me()) return;
    for (int i = 0; i < 64; ++i) {
      uint32_t free = kFree;
      if (state_.load(std::memory_order_relaxed) == kFree &&
          state_.compare_exchange_weak(free, kHeld, std::memory_order_acquire)) {
        return;
      }
      os::cpu_relax();
    }
    while (state_.exchange(kContended, std::memory_order_acquire) != kFree) {
      os::futex_wait(&state_, kContended);
    }
  }

  std::atomic<uint32_t> state_{kFree};
  std::atomic<const void*> holder_{nullptr};
  static inline constinit std::atomic<const void*> all_holder_{nullptr};
};

class LockGuard {
 public:
  explicit LockGuard(Lock& lock) : lock_(lock) { lock_.acquire(); }
  ~LockGuard() { lock_.release(); }
  LockGuard(const LockGuard&) = delete;
  LockGuard& operator=(const LockGuard&) = delete;

 private:
  Lock& lock_;
};

}  // namespace tally::core
