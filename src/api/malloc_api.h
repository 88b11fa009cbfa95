// The malloc family's rules: arguments, overflow, errno, what realloc keeps. preload/ gives these
// their C names, and combines them to the rest of the family.
#pragma once

#include <malloc.h>
#include <stddef.h>
#include <stdio.h>

#include "heap/allocate.h"
#include "heap/free.h"

namespace tally::core::api {

// `caller` as in heap/allocate.h.
inline void* malloc(size_t n) { return allocate(n); }
inline void free(void* p) { release_block(p); }

void* calloc(size_t count, size_t size, const void* caller);
void* realloc(void* p, size_t n, const void* caller);

// EINVAL unless the alignment is a power of two; n need not be a multiple of it, as in glibc.
void* aligned_alloc(size_t alignment, size_t n, const void* caller);
// The alignment is rounded up to a power of two, as in glibc.
void* memalign(size_t alignment, size_t n, const void* caller);
int posix_memalign(void** result, size_t alignment, size_t n, const void* caller);

size_t malloc_usable_size(const void* p);

int malloc_trim(size_t pad);
int malloc_info(int flags, FILE* file);
void malloc_stats();
int mallopt(int parameter, int value);

// For the C API too. `tag` nullptr: the one in force, for which the caller is needed; for resize,
// the block's own.
void* allocate_array(Tag* tag, size_t count, size_t size, const void* caller);
void* allocate_aligned_checked(Tag* tag, size_t alignment, size_t n, const void* caller);
void* resize(Tag* tag, void* p, size_t n);

}  // namespace tally::core::api
