/* Which malloc is live? A benchmark that silently measured another one is worse than none. C and
 * C++; for programs compiled with _GNU_SOURCE. */
#ifndef TALLY_BENCH_ALLOCATOR_CHECK_H
#define TALLY_BENCH_ALLOCATOR_CHECK_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The file that malloc comes from. By dlsym, because &malloc may be a stub in the program itself.
 */
static inline const char* live_allocator(void) {
  Dl_info info;
  void* address = dlsym(RTLD_DEFAULT, "malloc");
  return address != NULL && dladdr(address, &info) != 0 ? info.dli_fname : "(unknown)";
}

/* expected: "glibc", a part of the library's file name ("mimalloc"), or a path, which must be the
 * same. */
static inline int is_live_allocator(const char* expected) {
  const char* path = live_allocator();
  const char* slash = strrchr(path, '/');
  const char* file = slash != NULL ? slash + 1 : path;
  if (strchr(expected, '/') != NULL) return strcmp(path, expected) == 0;
  if (strcmp(expected, "glibc") == 0) {
    return strncmp(file, "libc.so", 7) == 0 || strncmp(file, "libc-", 5) == 0;
  }
  return strstr(file, expected) != NULL;
}

static inline void require_allocator(const char* expected) {
  if (is_live_allocator(expected)) return;
  fprintf(stderr, "bench: expected the malloc of '%s', but the live one is that of %s\n", expected,
          live_allocator());
  exit(3);
}

/* For the workload programs: run.py says in the environment what it preloaded. */
static inline void require_allocator_from_environment(void) {
  const char* expected = getenv("BENCH_ALLOCATOR");
  if (expected != NULL) require_allocator(expected);
}

#endif
