// Blocks of the C library's own malloc, which reach us from before we started, from plug-ins that
// were loaded with RTLD_DEEPBIND, and from programs that call __libc_malloc.
#pragma once

#include <cstddef>

namespace tally::core::os {

// True if p looks in every respect like a live block of glibc's. Reads only what can be read. Slow.
bool libc_owns(const void* p);
// For pointers of which libc_owns said yes.
void libc_free(void* p);
void* libc_realloc(void* p, size_t bytes);
size_t libc_usable_size(const void* p);

}  // namespace tally::core::os
