// Which blocks are sampled, and where they lie.
//
// Nothing on the fast paths knows of samples. The list that a heap is handed is cut before the next
// sample point, so that malloc runs dry there, as it does at any list's end, and the slow path
// takes the sample. Sampled blocks lie in slabs of a thread that does not run, `sampled`, so that
// their free is a remote one, which takes the slow path anyway. Guarded ones have places of their
// own (heap/guarded.h).
#pragma once

#include "heap/heap.h"
#include "sample/poisson.h"
#include "sample/profile.h"

namespace tally::core {

inline bool is_sampling() { return profile.rate() != 0; }

// The heap's list of the class is empty, and one of `n` bytes is wanted: a sampled block if a point
// lies in it, else nullptr, and the list may be refilled. `alignment` is what the caller asked for.
// No lock held.
void* allocate_sample(Heap* heap, unsigned c, size_t n, size_t alignment);
// How many of `count` blocks the heap may have on the list of this class, which is empty: those
// before the next sample. At least 1.
inline uint64_t blocks_before_sample(Heap* heap, unsigned c, uint64_t count) {
  if (TALLY_LIKELY(heap->sampling.uniform == 0)) return count;
  uint64_t part = blocks_before_point(heap->sampling.uniform, class_size(c), count, profile.rate());
  heap->sampling.uniform = 0;
  if (part == count) return count;
  heap->sampling.due |= uint64_t{1} << c;
  return part == 0 ? 1 : part;
}
// What the heap had on that list goes elsewhere.
inline void forget_point(Heap* heap, unsigned c) { heap->sampling.due &= ~(uint64_t{1} << c); }

// The slab is one of sampled blocks.
bool is_of_samples(const Slab* slab);
// One of its blocks is freed.
void free_sample(Slab* slab, Block* block);

// Large blocks: one was allocated; is to become another length, and perhaps to lie elsewhere; did
// not; did; is to be freed. No lock held. As soon as it has moved, its place may be another's: in
// the meantime its sample goes by the descriptor's address, which is nobody's memory.
void note_large(Slab* slab, size_t n);
void note_resizing(Slab* slab);
void note_unresized(Slab* slab);
void note_resized(Slab* slab, size_t old_bytes, size_t n);
void forget_large(Slab* slab);

}  // namespace tally::core
