// Those of the malloc family that are made of others. They call these by their public names: a
// program with a malloc, realloc, free or memalign of its own gets blocks of that one. In a file
// apart, as a compiler may bind a call to what it sees, and as an archive's member is linked whole.
// What may be a new block is asked for in tail position, so that the caller is seen to be ours.
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "base/math.h"
#include "os/os.h"

#define TALLY_EXPORT __attribute__((visibility("default"), used))

extern "C" {

TALLY_EXPORT void* reallocarray(void* p, size_t count, size_t size) noexcept {
  size_t n;
  if (!__builtin_mul_overflow(count, size, &n)) return ::realloc(p, n);
  errno = ENOMEM;
  return nullptr;
}
TALLY_EXPORT void* reallocf(void* p, size_t n) noexcept {
  if (p == nullptr) return ::malloc(n);
  void* block = ::realloc(p, n);
  if (block == nullptr && n != 0) ::free(p);
  return block;
}
TALLY_EXPORT void cfree(void* p) noexcept { ::free(p); }
TALLY_EXPORT void free_sized(void* p, size_t /*n*/) noexcept { ::free(p); }
TALLY_EXPORT void free_aligned_sized(void* p, size_t /*alignment*/, size_t /*n*/) noexcept {
  ::free(p);
}

TALLY_EXPORT void* valloc(size_t n) noexcept { return ::memalign(tally::core::os::page_size(), n); }
TALLY_EXPORT void* pvalloc(size_t n) noexcept {
  using namespace tally::core;
  size_t page = os::page_size(), rounded = round_up(n, page);
  if (rounded >= n) return ::memalign(page, max_of(rounded, page));
  errno = ENOMEM;
  return nullptr;
}

}  // extern "C"
