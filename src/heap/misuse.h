// The program's mistakes, as far as they show without cost to the fast paths. Each is one line on
// stderr that names the pointer and its block, then abort, or nothing more with
// TALLY_ON_CORRUPTION=report.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "base/math.h"
#include "heap/size_class.h"
#include "memory/slab.h"

namespace tally::core {

enum class Use : uint8_t { kFree, kRealloc, kUsableSize };

void misuse_double_free(const void* p, const Slab* slab);
// p lies in a slab or large block, but no block starts there.
void misuse_interior(Use use, const void* p, const Slab* slab);
void misuse_foreign(Use use, const void* p);
// A list of `count` free blocks is none: longer, shorter, or it leaves the slab (nullptr: any
// slab's).
void misuse_list(const Block* first, uint32_t count, const Slab* slab);

// The last block of a list that must have `count` blocks. nullptr, and reported, if it has not: a
// block was freed twice, or written to after it was freed, or a pointer into one was freed. Walking
// costs little, as the blocks are about to be used. With `slab` nullptr the blocks are of any slab.
inline Block* check_list(Block* first, uint32_t count, const Slab* slab) {
  Block* last = first;
  uint32_t seen = 0;
  if (slab != nullptr) {
    Multiples multiples = kMultiples[slab->what().size_class];
    uint32_t end = slab->carved.load(std::memory_order_relaxed) * slab->block_size;
    for (const Block* block = first; seen < count; ++seen, block = block->next) {
      size_t offset = address(block) - address(slab->start);
      if (offset >= end || !multiples.contain(static_cast<uint32_t>(offset))) break;
      last = const_cast<Block*>(block);
    }
  } else {
    for (seen = 1; seen < count && last->next != nullptr; ++seen) last = last->next;
  }
  if (TALLY_LIKELY(seen == count && last->next == nullptr)) return last;
  misuse_list(first, count, slab);
  return nullptr;
}

// How often a pointer that is not ours was passed to us.
uint64_t foreign_count();

}  // namespace tally::core
