/* For test programs without a framework: CHECK says what failed and ends the program with 1. It
 * does not allocate, so that it may stand anywhere, in a child of a threaded process too. */
#ifndef TALLY_TESTS_SUPPORT_CHECK_H
#define TALLY_TESTS_SUPPORT_CHECK_H

#include <stdio.h>
#include <unistd.h>

#include "tally_test.h"

#define CHECK(condition)                                                                         \
  do {                                                                                           \
    if (!(condition)) {                                                                          \
      int check_errno = errno;                                                                   \
      dprintf(2, "%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition, check_errno); \
      _exit(1);                                                                                  \
    }                                                                                            \
  } while (0)

/* As CHECK(a op b), and shows both sides. */
#define CHECK_OP(a, op, b)                                                                   \
  do {                                                                                       \
    unsigned long long check_a = (unsigned long long)(a), check_b = (unsigned long long)(b); \
    if (!(check_a op check_b)) {                                                             \
      dprintf(2, "%s:%d: failed: %s %s %s: %llu, %llu\n", __FILE__, __LINE__, #a, #op, #b,   \
              check_a, check_b);                                                             \
      _exit(1);                                                                              \
    }                                                                                        \
  } while (0)

#define CHECK_LIVE() CHECK(tally_is_live())

/* Exit status of a test that cannot run here; say why first. */
#define SKIPPED 77

#endif
