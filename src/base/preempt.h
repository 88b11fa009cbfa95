// Forced preemption: in builds with TALLY_CHECKS a thread says where it is at the points at which
// the protocols between threads are most delicate, and a test may make it wait there, so that
// others come in between far more often than the scheduler lets them. Compiles to nothing
// otherwise.
#pragma once

#include "base/config.h"

#if TALLY_CHECKS
#include <atomic>
#endif

namespace tally::core {

#if TALLY_CHECKS
// Set by the test; called with the name of a point.
using PointHook = void (*)(const char* name);
inline constinit std::atomic<PointHook> point_hook{nullptr};

inline void at_point(const char* name) {
  if (PointHook hook = point_hook.load(std::memory_order_relaxed)) hook(name);
}
#else
inline void at_point(const char* /*name*/) {}
#endif

}  // namespace tally::core
