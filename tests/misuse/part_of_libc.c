/* A preload library that does to libc what sanitizers do: of the names by which its malloc is
 * called past another, it takes one and leaves the others. */
#include <stdint.h>
#include <sys/mman.h>

void* __libc_memalign(size_t alignment, size_t bytes) {
  char* p = mmap(0, bytes + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? 0 : (void*)(((uintptr_t)p + alignment - 1) & ~(alignment - 1));
}
