// The backend `libc` under ThreadSanitizer, which is malloc: it takes one of the names by which
// libc's malloc is called past another, and not the rest. Here all of those that the backend uses
// lead to the sanitizer's, which is told by that when a chunk is given back, too.
#include <malloc.h>

#include <cstdlib>

extern "C" {
// NOLINTNEXTLINE(readability-identifier-naming)
void* __libc_memalign(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
// NOLINTNEXTLINE(readability-identifier-naming)
void __libc_free(void* p) { free(p); }
}
