// What a thread needs little of, it shares. A slab takes a page at least, and of 64 tags in 8
// threads most classes have a block or two: 18 MiB of pages for 2 MiB of blocks. So a heap's first
// blocks of a class come from a slab that all threads share, of the commons: an orphan's, as far as
// everything else is concerned, that is neither continued with nor stolen from.
#pragma once

#include "heap/heap.h"

namespace tally::core {

// The heap had few blocks of the class so far, and others use its tag too.
bool may_borrow(const Heap* heap, unsigned c);
// Puts some on heap->classes[c].list, which is empty. False: there are none. No lock held.
bool borrow(Heap* heap, unsigned c);

}  // namespace tally::core
