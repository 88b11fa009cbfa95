// The C library's own malloc. Its blocks reach us from before we started, from plug-ins that were
// loaded with RTLD_DEEPBIND, and from programs that call __libc_malloc; and it may be what Tally
// takes its memory from.
#pragma once

#include <cstddef>

namespace tally::core::os {

// True if p looks in every respect like a live block of glibc's. Reads only what can be read. Slow.
bool libc_owns(const void* p);
// For pointers of which libc_owns said yes.
void libc_free(void* p);
void* libc_realloc(void* p, size_t bytes);
size_t libc_usable_size(const void* p);

// Whether it can be called by names that Tally does not take. Called before libc_held_bytes.
bool has_libc();
// nullptr: there is no memory, or no such libc.
void* libc_aligned(size_t alignment, size_t bytes);
// Bytes that it has from the system.
size_t libc_held_bytes();

}  // namespace tally::core::os
