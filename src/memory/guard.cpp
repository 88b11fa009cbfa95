#include "memory/guard.h"

#include <atomic>

namespace tally::core::guard {
namespace {

// A process may have 65,530 mappings, and not all are ours.
constexpr int kMost = 15000;
constinit std::atomic<int> g_places{0};

}  // namespace

bool take_place() {
  if (g_places.fetch_add(1, std::memory_order_relaxed) < kMost) return true;
  return false;
}

void give_place() { g_places.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace tally::core::guard
