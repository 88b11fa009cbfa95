// The program's mistakes, as far as they show without cost to the fast paths. Each is one line on
// stderr that names the pointer and its block, then abort, or nothing more with
// TALLY_ON_CORRUPTION=report.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "base/math.h"
#include "base/options.h"
#include "memory/size_class.h"
#include "memory/slab.h"

namespace tally::core {

namespace guarded {
struct Place;
}

enum class Use : uint8_t { kFree, kRealloc, kUsableSize };

// `seen`: when it shows, if that is not at the call that was wrong or where the memory is used
// again.
void misuse_double_free(const void* p, const Slab* slab, const char* seen = nullptr);
// p was a block, and is none any more.
void misuse_freed(Use use, const void* p, const Slab* slab);
// p lies in a slab or large block, but no block starts there.
void misuse_interior(Use use, const void* p, const Slab* slab, const char* seen = nullptr);
void misuse_foreign(Use use, const void* p);
// p, beside the block [start, end) of the slab, was written to, as is `seen` at its free or the
// like.
void misuse_damage(const char* seen, const void* p, const void* start, const void* end,
                   const Slab* slab);
// p, in a block that is free, was written to.
void misuse_write(const void* p, const Block* block, const Slab* slab, const char* seen = nullptr);
// What a free block has for a link is none.
void misuse_links(const Block* block, const Slab* slab, const char* seen = nullptr);
// A list of `count` free blocks of the slab is none: longer, shorter, or it leaves the slab.
void misuse_list(const Block* first, uint32_t count, const Slab* slab);

// The last block of a list of `count` free blocks of the slab, or its `most`-th. nullptr, and
// reported, if it is no such list, as a block was freed twice, or written to after it was freed, or
// a pointer into one was freed.
inline Block* check_list(Block* first, uint32_t count, const Slab* slab, uint32_t most = ~0U) {
  Multiples multiples = kMultiples[slab->what().size_class];
  uint32_t carved = slab->carved.load(std::memory_order_relaxed);
  uint32_t end = carved * slab->block_size;
  uint32_t look = count < most ? count : most;
  Block* last = first;
  uint32_t seen = 0;
  for (Block* block = first; seen < look && count <= carved; ++seen, block = block->next()) {
    size_t offset = address(block) - address(slab->start);
    if (offset >= end || !multiples.contain(static_cast<uint32_t>(offset))) break;
    if (seen != 0 && block == first) break;
    last = block;
  }
  if (TALLY_LIKELY(seen == look && (seen < count || last->next() == nullptr))) return last;
  misuse_list(first, count, slab);
  return nullptr;
}

// As check_list, of as much as costs nothing: the first, as the program will touch these blocks at
// once, and the whole of a list shorter than `little`. To walk a long cold list takes up to 37 % of
// a program's time, and is TALLY_CHECK's.
inline Block* check_head(Block* first, uint32_t count, const Slab* slab, uint32_t little) {
  return check_list(first, count, slab, options.check || count < little ? ~0U : 3);
}

// ---- Hardened, or with checks.

// p is deleted as of n bytes, and has others; as so aligned, and it is not.
void misuse_size(const void* p, size_t n, size_t has, const Slab* slab);
void misuse_alignment(const void* p, size_t alignment, const Slab* slab);

// ---- Hardened.

// A block that is off its list, and not as it was left there.
void report_free_block(const Block* block, unsigned c, const char* seen = nullptr);
// A block that somebody takes for a live one: whether it is. It is reported if not, and if there
// was written behind it.
bool check_seal(Use use, const void* p, const Slab* slab);

// How often a pointer that is not ours was passed to us, and the program went on.
uint64_t foreign_count();

}  // namespace tally::core
