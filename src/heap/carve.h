// How the blocks of a slab come onto its free list in the order of their addresses, as what is
// allocated together is used together.
#pragma once

#include "heap/heap.h"

namespace tally::core {

// Both: lock of the slab's thread held, by the slab's owner.

// Links never-used blocks behind `last` of slab->free: a batch, or near a limit those of a page.
// None if a limit refuses.
void carve(Heap* heap, Slab* slab, Block* last);
// Hardened. An empty slab, which has no holes, and whose blocks are all on its list: they are
// linked as when they were new, behind those that were freed last. They stay as they were left,
// which is looked at as they are used again.
void link_again(Slab* slab);

}  // namespace tally::core
