/* Preloaded before Tally: a count of what the program holds that is not Tally's, the sum of
 * malloc_usable_size over all that the program allocates and frees. At the end both are written to
 * the file that ORACLE_FILE names, as
 * "<bytes> <blocks> <Tally's bytes> <Tally's blocks>". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>

#include "tally_test.h"

static atomic_llong bytes, blocks;

static void* next(const char* name) { return dlsym(RTLD_NEXT, name); }

static void* count(void* p) {
  static size_t (*usable)(void*);
  if (p == NULL) return p;
  if (usable == NULL) usable = (size_t(*)(void*))next("malloc_usable_size");
  atomic_fetch_add(&bytes, (long long)usable(p));
  atomic_fetch_add(&blocks, 1);
  return p;
}

static void discount(void* p) {
  static size_t (*usable)(void*);
  if (p == NULL) return;
  if (usable == NULL) usable = (size_t(*)(void*))next("malloc_usable_size");
  atomic_fetch_sub(&bytes, (long long)usable(p));
  atomic_fetch_sub(&blocks, 1);
}

void* malloc(size_t n) {
  static void* (*real)(size_t);
  if (real == NULL) real = (void* (*)(size_t))next("malloc");
  return count(real(n));
}

void* calloc(size_t n, size_t size) {
  static void* (*real)(size_t, size_t);
  if (real == NULL) real = (void* (*)(size_t, size_t))next("calloc");
  return count(real(n, size));
}

void free(void* p) {
  static void (*real)(void*);
  if (real == NULL) real = (void (*)(void*))next("free");
  discount(p);
  real(p);
}

void* realloc(void* p, size_t n) {
  static void* (*real)(void*, size_t);
  if (real == NULL) real = (void* (*)(void*, size_t))next("realloc");
  discount(p);
  void* q = real(p, n);
  if (q == NULL && n != 0) count(p);
  return count(q);
}

void* memalign(size_t alignment, size_t n) {
  static void* (*real)(size_t, size_t);
  if (real == NULL) real = (void* (*)(size_t, size_t))next("memalign");
  return count(real(alignment, n));
}

void* aligned_alloc(size_t alignment, size_t n) { return memalign(alignment, n); }

int posix_memalign(void** to, size_t alignment, size_t n) {
  static int (*real)(void**, size_t, size_t);
  if (real == NULL) real = (int (*)(void**, size_t, size_t))next("posix_memalign");
  int error = real(to, alignment, n);
  if (error == 0) count(*to);
  return error;
}

void* reallocarray(void* p, size_t n, size_t size) {
  if (size != 0 && n > PTRDIFF_MAX / size) {
    errno = ENOMEM;
    return NULL;
  }
  return realloc(p, n * size);
}

/* After the program's own destructors, and before Tally's. */
__attribute__((destructor)) static void tell(void) {
  const char* path = getenv("ORACLE_FILE");
  if (path == NULL || !tally_version) return;
  tally_stats_t all = stats_of(TALLY_TAG_ROOT), own = stats_of(tally_tag_find("/tally"));
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return;
  dprintf(fd, "%lld %lld %llu %llu\n", atomic_load(&bytes), atomic_load(&blocks),
          (unsigned long long)(all.total.live_bytes - own.total.live_bytes),
          (unsigned long long)(all.total.live_blocks - own.total.live_blocks));
  close(fd);
}
