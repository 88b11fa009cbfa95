/* A preload library that interposes what an allocator may be tempted to call, and allocates in it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

static __thread int depth;

/* What malloc calls, calls malloc: without an end, if malloc gets here. */
static void allocate(void) {
  if (++depth > 50) {
    static const char line[] = "hostile: malloc called what was interposed\n";
    syscall(SYS_write, 2, line, sizeof line - 1);
    syscall(SYS_exit_group, 99);
  }
  void* small = malloc(100);
  void* large = malloc(300000);
  if (small) memset(small, 1, 100);
  free(small);
  free(large);
  depth--;
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  int mode = va_arg(arguments, int);
  va_end(arguments);
  allocate();
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) __attribute__((alias("open")));

ssize_t read(int fd, void* buffer, size_t n) {
  allocate();
  return syscall(SYS_read, fd, buffer, n);
}

void* mmap(void* at, size_t length, int protection, int flags, int fd, off_t offset) {
  allocate();
  return (void*)syscall(SYS_mmap, at, length, protection, flags, fd, offset);
}
void* mmap64(void*, size_t, int, int, int, off_t) __attribute__((alias("mmap")));

int munmap(void* at, size_t length) {
  allocate();
  return (int)syscall(SYS_munmap, at, length);
}

int madvise(void* at, size_t length, int advice) {
  allocate();
  return (int)syscall(SYS_madvise, at, length, advice);
}

int mprotect(void* at, size_t length, int protection) {
  allocate();
  return (int)syscall(SYS_mprotect, at, length, protection);
}

void* mremap(void* at, size_t length, size_t to, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  void* target = va_arg(arguments, void*);
  va_end(arguments);
  allocate();
  return (void*)syscall(SYS_mremap, at, length, to, flags, target);
}

char* getenv(const char* name) {
  allocate();
  size_t n = strlen(name);
  for (char** each = environ; each && *each; each++) {
    if (strncmp(*each, name, n) == 0 && (*each)[n] == '=') return *each + n + 1;
  }
  return NULL;
}
char* secure_getenv(const char*) __attribute__((alias("getenv")));

int clock_gettime(clockid_t clock, struct timespec* now) {
  allocate();
  return (int)syscall(SYS_clock_gettime, clock, now);
}
