/* What the tests share: Tally's interface by weak references, and a few measurements that do not
 * allocate.
 *
 * The same objects are linked twice, once without the library and run under LD_PRELOAD, once with
 * the static library; a weak reference is what lets the first link succeed. */
#ifndef TALLY_TESTS_SUPPORT_TALLY_TEST_H
#define TALLY_TESTS_SUPPORT_TALLY_TEST_H

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>
#include <unistd.h>

#include "classes.h"

#pragma weak tally_version
#pragma weak tally_tag_create
#pragma weak tally_tag_find
#pragma weak tally_tag_retire
#pragma weak tally_tag_name
#pragma weak tally_tag_push
#pragma weak tally_tag_pop
#pragma weak tally_tag_current
#pragma weak tally_tag_of
#pragma weak tally_malloc
#pragma weak tally_calloc
#pragma weak tally_aligned_alloc
#pragma weak tally_realloc
#pragma weak tally_free
#pragma weak tally_usable_size
#pragma weak tally_trim
#pragma weak tally_limit_set
#pragma weak tally_limit_get
#pragma weak tally_pressure
#pragma weak tally_on_pressure
#pragma weak tally_off_pressure
#pragma weak tally_charge
#pragma weak tally_uncharge
#pragma weak tally_stats
#pragma weak tally_snapshot
#pragma weak tally_snapshot_free
#pragma weak tally_snapshot_json
#pragma weak tally_snapshot_text
#pragma weak tally_snapshot_json_fd
#pragma weak tally_snapshot_text_fd
#pragma weak tally_arena_create
#pragma weak tally_arena_destroy
#pragma weak tally_arena_alloc_slow
#pragma weak tally_arena_mark
#pragma weak tally_arena_rewind
#pragma weak tally_arena_reset
#pragma weak tally_arena_stats

#ifdef __cplusplus
extern "C" {
#endif

/* Members of the family that the C library's headers do not declare (any more, or yet). */
__attribute__((weak)) void test_cfree(void* p) __asm__("cfree");
__attribute__((weak)) void test_free_sized(void* p, size_t size) __asm__("free_sized");
__attribute__((weak)) void test_free_aligned_sized(void* p, size_t alignment,
                                                   size_t size) __asm__("free_aligned_sized");

#ifdef __cplusplus
}
#endif

/* Whether malloc is Tally's. */
static inline int tally_is_live(void) {
  if (!tally_version) return 0;
  void* p = malloc(1);
  int live = tally_tag_of(p) != TALLY_TAG_NONE;
  free(p);
  return live;
}

/* A value that the compiler knows nothing about, so that it neither warns nor folds. */
static inline size_t opaque(size_t n) {
  volatile size_t v = n;
  return v;
}

static inline void* opaque_pointer(void* p) {
  void* volatile v = p;
  return v;
}

/* Which backend the test was started over. */
static inline const char* backend_name(void) {
  const char* name = getenv("TALLY_BACKEND");
  return name == NULL ? "os" : name;
}

/* Field `index` of /proc/self/statm in bytes: 0 is the address space, 1 what is resident. */
static inline size_t statm_bytes(int index) {
  char text[256];
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (n <= 0) return 0;
  text[n] = 0;
  char* at = text;
  for (int i = 0; i < index; i++) at = strchr(at, ' ') + 1;
  return (size_t)strtoull(at, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static inline size_t rss_bytes(void) { return statm_bytes(1); }

/* One tag's figures; stops the program if there is no such tag. */
static inline tally_stats_t stats_of(tally_tag tag) {
  tally_stats_t stats;
  memset(&stats, 0, sizeof stats);
  stats.size = sizeof stats;
  if (tally_stats(tag, &stats) != 0) {
    fprintf(stderr, "tally_stats(%u): errno %d\n", tag, errno);
    abort();
  }
  return stats;
}

#endif
