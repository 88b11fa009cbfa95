#include "memory/guard.h"

#include <atomic>

namespace tally::core::guard {
namespace {

// A process may have 65,530, and not all are ours.
constexpr unsigned kMost = 30000;
constinit std::atomic<unsigned> g_mappings{0};

}  // namespace

bool take_mappings(unsigned count) {
  if (g_mappings.fetch_add(count, std::memory_order_relaxed) + count <= kMost) return true;
  give_mappings(count);
  return false;
}

void give_mappings(unsigned count) { g_mappings.fetch_sub(count, std::memory_order_relaxed); }

}  // namespace tally::core::guard
