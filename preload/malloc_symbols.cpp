// The malloc family's C names, a line each. The rules are in src/api; what is made of these alone
// is in malloc_combined.cpp.
#include "api/malloc_api.h"
#include "api_anchor.h"

#define TALLY_EXPORT __attribute__((visibility("default"), used))

namespace api = tally::core::api;

// Whose code it is that calls.
#define TALLY_CALLER __builtin_return_address(0)

extern "C" {

TALLY_EXPORT void* malloc(size_t n) noexcept { return api::malloc(n); }
TALLY_EXPORT void free(void* p) noexcept { api::free(p); }
TALLY_EXPORT void* calloc(size_t count, size_t size) noexcept {
  return api::calloc(count, size, TALLY_CALLER);
}
TALLY_EXPORT void* realloc(void* p, size_t n) noexcept { return api::realloc(p, n, TALLY_CALLER); }

TALLY_EXPORT void* aligned_alloc(size_t alignment, size_t n) noexcept {
  return api::aligned_alloc(alignment, n, TALLY_CALLER);
}
TALLY_EXPORT void* memalign(size_t alignment, size_t n) noexcept {
  return api::memalign(alignment, n, TALLY_CALLER);
}
TALLY_EXPORT int posix_memalign(void** result, size_t alignment, size_t n) noexcept {
  return api::posix_memalign(result, alignment, n, TALLY_CALLER);
}

TALLY_EXPORT size_t malloc_usable_size(void* p) noexcept { return api::malloc_usable_size(p); }
TALLY_EXPORT int malloc_trim(size_t pad) noexcept { return api::malloc_trim(pad); }
TALLY_EXPORT int malloc_info(int flags, FILE* file) noexcept {
  return api::malloc_info(flags, file);
}
TALLY_EXPORT void malloc_stats() noexcept { api::malloc_stats(); }
TALLY_EXPORT int mallopt(int parameter, int value) noexcept {
  return api::mallopt(parameter, value);
}

}  // extern "C"
