// A lock of one word, its holder, that sleeps in the kernel, so that a waiter with real-time
// priority lets the holder run.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/preempt.h"
#include "base/processor.h"
#include "os/os.h"

namespace tally::core {

// Locks that the running thread has, or is about to. More than it has for an instant, never less.
// (Two tasks with one thread's state, by a raw clone, may find each other's.)
extern constinit thread_local uint8_t locks_held;

class Lock {
 public:
  void acquire() {
    at_point("lock: to be taken");
    count(1);
    if (!take()) acquire_slow();
  }
  bool try_acquire() {
    count(1);
    if (take()) return true;
    count(-1);
    return false;
  }
  void release() {
    if (!all_held_by_me()) open();
    count(-1);
  }
  // The running thread is in the midst of a step: a signal handler that interrupted it may not take
  // another. (Not so while a fork has all of them, and the handlers of others run.)
  static bool is_in_step() { return locks_held != 0 && !all_held_by_me(); }
  // Not counted: a turn, in which its holder allocates and takes locks as ever.
  bool take() {
    uintptr_t free = 0;
    return word_.compare_exchange_strong(free, me(), std::memory_order_acquire);
  }
  void open() {
    if ((word_.exchange(0, std::memory_order_release) & kContended) != 0) {
      os::futex_wake_one(futex());
    }
    at_point("lock: opened");
  }
  // While a fork is prepared one thread holds every lock, and other libraries' handlers may
  // allocate on it: its acquire and release have nothing to do.
  static void hold_all(bool on) { all_holder_.store(on ? me() : 0, std::memory_order_relaxed); }
  bool held_by_me() const { return (word_.load(std::memory_order_relaxed) & ~kContended) == me(); }

  // Around fork. A lock that this thread holds already (fork in a signal handler that interrupted
  // us) stays as it is: the child too returns into the interrupted step, and ends it. False: as
  // long as another thread had it, give_up() was asked every millisecond, and said so.
  template <class GiveUp>
  bool acquire_for_fork(GiveUp give_up) {
    if (held_by_me()) {
      was_held_ = true;
      return true;
    }
    if (take()) return true;
    uint32_t word;
    while (!acquire_or_announce(&word)) {
      if (give_up()) return false;
      os::futex_wait_ms(futex(), word, 1);
    }
    return true;
  }
  void release_after_fork() {
    if (!held_by_me()) return;
    if (!std::exchange(was_held_, false) && !all_held_by_me()) open();
  }
  // In the child, where who waited no longer exists, nor who else held it.
  void reset_after_fork() {
    bool is_mine = held_by_me() && was_held_;
    was_held_ = false;
    word_.store(is_mine ? me() : 0, std::memory_order_relaxed);
  }

  // Around what a fork takes and gives back, which it does not count one by one.
  static void begin_fork() { count(1); }
  static void end_fork() { count(-1); }

  static bool all_held_by_me() { return all_holder_.load(std::memory_order_relaxed) == me(); }

  // Distinct for each thread that runs: its thread control block.
  static uintptr_t me() { return reinterpret_cast<uintptr_t>(__builtin_thread_pointer()); }

 private:
  // The holder's identity, with this bit if somebody may be asleep.
  static constexpr uintptr_t kContended = 1;

  // The half of the word that has the bit, which the kernel compares.
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  std::atomic<uint32_t>* futex() { return reinterpret_cast<std::atomic<uint32_t>*>(&word_); }

  // In order, for a handler of this thread.
  static void count(int more) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    locks_held = static_cast<uint8_t>(locks_held + more);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void acquire_slow() {
    if (all_held_by_me()) return;
    for (int i = 0; i < 64; ++i) {
      if (word_.load(std::memory_order_relaxed) == 0 && take()) return;
      processor::relax();
    }
    uint32_t word;
    while (!acquire_or_announce(&word)) os::futex_wait(futex(), word);
  }

  // Takes it, or leaves word that somebody will be asleep, and tells it.
  bool acquire_or_announce(uint32_t* asleep) {
    for (;;) {
      uintptr_t word = word_.load(std::memory_order_relaxed);
      if (word == 0) {
        // Others may be asleep still, so this holder is to wake one.
        if (word_.compare_exchange_weak(word, me() | kContended, std::memory_order_acquire)) {
          return true;
        }
      } else if ((word & kContended) != 0 ||
                 word_.compare_exchange_weak(word, word | kContended, std::memory_order_relaxed)) {
        *asleep = static_cast<uint32_t>(word | kContended);
        return false;
      }
    }
  }

  std::atomic<uintptr_t> word_{0};
  bool was_held_ = false;  // before a fork: its holder, while it forks
  static inline constinit std::atomic<uintptr_t> all_holder_{0};
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
