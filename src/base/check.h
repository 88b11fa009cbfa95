// Three kinds of check: static_assert for layout; TALLY_ASSERT for our own invariants, only in
// builds with TALLY_CHECKS but compiled in all; and heap/misuse.h for the user's mistakes, always
// on.
#pragma once

#include "base/config.h"

#define TALLY_ASSERT(condition)                                   \
  do {                                                            \
    if (::tally::core::kChecks && !(condition)) __builtin_trap(); \
  } while (0)

#define TALLY_NOINLINE __attribute__((noinline))
#define TALLY_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define TALLY_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
