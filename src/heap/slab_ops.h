// What happens to slabs outside the fast paths.
#pragma once

#include "heap/heap.h"

namespace tally::core {

// Puts blocks on heap->classes[c].list, which is empty: from a slab of the heap, else an orphan's,
// else a new one, or with what it borrows. False: no memory. Takes the heap's thread's lock.
bool refill(Heap* heap, unsigned c);
// Likewise, from slabs alone, and from a new one if the heap may grow. Lock held.
bool refill_locked(Heap* heap, unsigned c, bool may_grow);

// Checks the slab's free list, all of it (and whether a block lies in a hole) if it is shorter than
// `little`, else as far as costs nothing. Returns the last block that it looked at. nullptr: the
// list is empty, or the program corrupted it and chose to go on; its blocks are lost to it. The
// slab's owner, with the lock.
Block* look_at_free(Slab* slab, uint32_t little);

// A local free reached the slab's floor.
void on_level(Slab* slab) noexcept;

// Blocks that others gave back join the slab's own: a countdown to zero then means that it is
// empty, unless others give more back meanwhile. The caller owns it. A list that joins no other is
// not walked, but looked at as it is handed on.
void collect(Slab* slab);

// A block of another thread's slab was freed by this thread. `heap` is its heap
// for the slab's tag, or nullptr.
void free_remote(Heap* heap, Slab* slab, Block* block);

// Gives back all blocks that the heap has in hand. Those of other threads' slabs are put before
// `foreign`, for give_foreign when the lock is open again. The heap's thread is the running one, or
// an orphan; lock held.
Block* flush(Heap* heap, Block* foreign);
Block* flush_all(Thread* thread);
// No lock held. At most so many: a block that was freed twice makes a list a ring.
void give_foreign(Block* list, uint64_t most = ~uint64_t{0});

// The slab may be empty, or worth allocating from again: its thread is to look at it. Whoever finds
// it in the list already has pushed before the thread takes it off, and looks. (It may have become
// something else since the push: what its thread finds then holds for what it is.) The caller holds
// a lock that a fork waits for, so that the child's copy of the list is whole.
void wake(Slab* slab);
// Puts the heap's slabs that have free blocks before those that would need memory to give any. Lock
// held, by its thread.
void put_free_first(Heap* heap);
// Makes those of the thread's slabs available again that are worth it by now, as their tag has
// become short of memory. Lock held, by the thread. Returns how much it had to look at.
uint32_t unpark_all(Thread* thread);

// Sees to the slabs of which others gave blocks back. Lock held.
void look_at_woken(Thread* thread);

// Releases slabs that hold no block: those kept, and others among the first `most` of a class. Lock
// held. Any thread.
// Returns how many.
unsigned release_empty(Heap* heap, unsigned most);
unsigned release_all_empty(Thread* thread, unsigned most);

}  // namespace tally::core
