// Holes: the free pages of slabs that are sparsely used. And tails: the pages that a slab has not
// come to yet, which its tag does not hold, but which are resident where something else was before.
//
// A granule of a slab is one bit of `Slab::holes`: a page, or 1/64 of a slab with more pages. One
// that only free blocks lie in can be given back to the system; then it is a hole, and its blocks
// are on no list until the heap needs them. So a program that frees most of what it had, here and
// there, is left with the pages that hold something.
#pragma once

#include "heap/heap.h"

namespace tally::core {

// All: lock of the slab's thread held, by the slab's owner, or it is an orphan's.

// Gives back what only free blocks lie in. Returns the bytes.
size_t dig_holes(Slab* slab);
// In all slabs that have blocks to give, of a heap, of a thread.
size_t dig_holes_of(Heap* heap);
size_t dig_all_holes(Thread* thread);
// Puts blocks of some holes on the free list, behind `last` of it: none if a limit refuses. There
// is a hole.
void fill_hole(Slab* slab, Block* last);
// A block on the free list that lies in a hole: it was freed twice. nullptr: there is none.
const Block* find_in_hole(const Slab* slab);
// All of the slab's blocks are back, and its list is about to be built anew. False: a limit refuses
// the memory, and nothing is changed.
bool forget_holes(Slab* slab);
// The slab is nobody's any more.
void lose_holes(Slab* slab);

// The event, in blocks out, that comes after `out` as a slab empties: 0 is the last.
uint32_t next_event(const Slab* slab, uint32_t out);
// A local free came to such an event. Programs often free the rest of a slab soon, so it is dug
// when some others have become sparse after it, unless it was used by then.
void note_sparse(Slab* slab);
// Blocks of the slab are handed out.
void note_use(Slab* slab);

// The slab is new, and its slots were used before.
void note_tail(Slab* slab);
void lose_tail(Slab* slab);
// Gives back tails of the thread's slabs that were there for as long as what is free may wait, some
// at a time; or all. Lock of the thread held. Returns the bytes.
size_t give_tails(Thread* thread, uint64_t now, bool all);
// How many slabs have one.
size_t tail_count();

}  // namespace tally::core
