// Where chunks and the largest blocks come from. The pools above do not know which backend it is.
#pragma once

#include <cstddef>

namespace tally::core::backend {

// "os".
const char* name();

// `bytes` (a multiple of the page size) aligned to `alignment` (a power of two, at least a page);
// all zero. nullptr if there are none. Any thread.
void* take(size_t bytes, size_t alignment);
// As take, exactly there, where a part was given back before. False: it is somebody else's by now.
bool take_again(void* p, size_t bytes);
// Gives back what take or resize gave, whole or (this backend can) in whole pages. False if it
// could not: the memory stays the caller's.
bool give(void* p, size_t bytes);
// Part of what was taken, whole pages: drops the content, keeps the addresses, which read as zero
// from now on. False: refused; a part of the content may be gone.
bool purge(void* p, size_t bytes);
// A hint, as os::prefer_huge_pages.
void prefer_huge_pages(void* p, size_t bytes, bool yes);
// Longer or shorter, content kept, new bytes zero; may move, to the same alignment. nullptr: all is
// as before.
void* resize(void* p, size_t bytes, size_t new_bytes, size_t alignment);

// Bytes taken and not given back.
size_t held_bytes();

}  // namespace tally::core::backend
