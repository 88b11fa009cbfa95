// Giving blocks back. What calls what, and when:
//
//   release_block(p)                       free, operator delete
//     address_map.find(p)                  the descriptor of whatever lies at p; one that nobody
//     owns for foreign p the slab is this thread's: push on slab->free, count down; 18 instructions
//       on_level(slab)                     heap/slab_ops.h: the count reached its floor: make
//       available, or release
//     release_slow(p, slab)                another thread's, a large block, nullptr, or a mistake
//       free_remote(heap, slab, block)     heap/slab_ops.h: to this thread's heap for the tag,
//       later to the slab free_large(slab)                   heap/large.h
#pragma once

#include <cstddef>

#include "base/check.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "memory/address_map.h"

namespace tally::core {

void release_slow(void* p, Slab* slab) noexcept;
void on_level(Slab* slab) noexcept;

inline void release_block(void* p) {
  Slab* slab = address_map.find(p);
  if (TALLY_UNLIKELY(slab->owner.load(std::memory_order_relaxed) != tls.thread)) {
    return release_slow(p, slab);
  }
  auto* block = static_cast<Block*>(p);
  block->next = slab->free;
  slab->free = block;
  if (TALLY_UNLIKELY(slab->level.count_down())) on_level(slab);
}

// The slab or large block of which p is a live block; nullptr, reported as `use`, if it is none. p
// is not nullptr.
Slab* slab_of_block(const void* p, Use use);
// As slab_of_block, but says nothing.
Slab* find_block(const void* p);

// Bytes that may be used in a block of this slab.
inline size_t usable_size(const Slab* slab) {
  return slab->block_size != 0 ? slab->block_size : slab->bytes.load(std::memory_order_relaxed);
}

}  // namespace tally::core
