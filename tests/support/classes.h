/* Size classes, where a test counts in them. */
#ifndef TALLY_TESTS_SUPPORT_CLASSES_H
#define TALLY_TESTS_SUPPORT_CLASSES_H

#include <stddef.h>
#include <stdlib.h>
#include <tally/tally.h>

/* Whether the test was started with libtally-hardened. */
static inline int tally_is_hardened(void) {
  const char* how = getenv("TEST_HARDENED");
  return how != NULL && *how == '1';
}

/* The size class of a block of n bytes, as src/memory/size_class.h has them. Hardened, a block has
 * a seal of 8 bytes. */
static inline size_t class_of(size_t n) {
  if (tally_is_hardened()) n += 8;
  size_t step = 16;
  while (n > 8 * step) step *= 2;
  return (n + step - 1) / step * step;
}

/* Bytes that a block counts as live, which is aligned to no more than a page. Hardened, it may be
 * used for as much as was asked for. */
static inline size_t counted_bytes(void* p) {
  size_t n = tally_usable_size(p);
  if (!tally_is_hardened() || p == NULL) return n;
  if (n == 0) return 4096; /* a closed page */
  return n <= 64 * 1024 - 8 ? class_of(n) : (n + 4095) / 4096 * 4096;
}

#endif
