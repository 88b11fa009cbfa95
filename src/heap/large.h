// Blocks too large for a slab: runs of slots in a chunk, or spans of their own.
#pragma once

#include <cstddef>

#include "memory/slab.h"
#include "tag/tag.h"

namespace tally::core {

// A block of n bytes, counted for the tag; nullptr: no memory. `zeroed` tells whether it reads as
// zero.
void* allocate_large(Tag* tag, size_t n, size_t alignment, bool* zeroed);
// `slab` is a run or span.
void free_large(Slab* slab);
// Hardened: whether a block of no bytes is to be a large one, of which nothing can be accessed.
bool has_nothing_left();
// What was freed last, and waits closed, is to be used again. Returns the bytes.
size_t give_delayed();
// Hardened: so many bytes wait with their pages. Any thread, without a lock.
size_t waiting_bytes();
// As purge_runs, for those pages.
size_t purge_waiting(uint64_t now, bool all);
// In a forked child: what another thread's purge had in hand waits on, and what is in no place is
// lost.
void recount_waiting();
// Makes the block longer or shorter without copying; a span may move. Returns where it is then;
// nullptr: it is as before, and must be copied.
void* resize_large(Slab* slab, size_t n);

}  // namespace tally::core
