// A bounded ring that one thread puts blocks into and another takes them from.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace workload {

struct alignas(128) Channel {
  static constexpr uint64_t kSlots = 1024;
  std::atomic<void*> slots[kSlots];

  static void pause(int& tries) {
    if (++tries % 64 == 0) sched_yield();  // there may be fewer cores than threads
  }
  void put(uint64_t at, void* p) {
    int tries = 0;
    while (slots[at % kSlots].load(std::memory_order_acquire) != nullptr) pause(tries);
    slots[at % kSlots].store(p, std::memory_order_release);
  }
  void* take(uint64_t at) {
    int tries = 0;
    void* p = nullptr;
    while ((p = slots[at % kSlots].load(std::memory_order_acquire)) == nullptr) pause(tries);
    slots[at % kSlots].store(nullptr, std::memory_order_release);
    return p;
  }
  // As put and take, but false and null instead of waiting.
  bool try_put(uint64_t at, void* p) {
    if (slots[at % kSlots].load(std::memory_order_acquire) != nullptr) return false;
    slots[at % kSlots].store(p, std::memory_order_release);
    return true;
  }
  void* try_take(uint64_t at) {
    void* p = slots[at % kSlots].load(std::memory_order_acquire);
    if (p != nullptr) slots[at % kSlots].store(nullptr, std::memory_order_release);
    return p;
  }
};

}  // namespace workload
