// Guarded samples: blocks that end, or begin, at memory which nobody may access, and that nobody
// may access once they are freed. An overflow, or a use after free, faults at the instruction that
// does it (heap/guard_report.h).
//
// Their places are a fixed stretch of addresses, two slots each:
//
//   | guard of the one before | area: pages of the block, at its end | guard |
//
// so that a block may have up to kMediumMax bytes, and lies a slot from the next at least. Of the
// area the pages that the block needs may be accessed, while it is live; what is left of them is
// filled, and looked at when it is freed. Places are used again in the order in which they were
// freed, and no more than half of them are live: the others remember who freed what.
//
// A guarded block is counted as a large one is, by its tag: in its live bytes with what was asked
// for, in its footprint with the pages.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "memory/slab.h"
#include "os/lock.h"
#include "sample/unwind.h"
#include "tag/tag.h"

namespace tally::core::guarded {

inline constexpr unsigned kPlaces = 1024;
inline constexpr unsigned kLiveMost = kPlaces / 2;

// Who allocated a block, or freed it.
struct Event {
  static constexpr size_t kDepthMost = 32;

  std::atomic<uint32_t> thread;  // id; 0: of nobody, or it is not told yet
  uint32_t depth;
  StackFrame frames[kDepthMost];  // innermost first
};

// slab.start and slab.bytes tell of the block that it holds, or held last; slab.binding whether
// that is live. In this order: all else is written before it becomes so, and stays till the next.
struct Place {
  static constexpr size_t kTagBytes = 256;

  Slab slab;  // where both its slots lead in the address map
  Place* next;
  std::atomic<bool> is_reported;  // of this block something was: it is not said again
  std::atomic<bool> is_open;      // somebody was let through to some of its pages
  char tag[kTagBytes];            // its name, ended by 0: the tag itself may be another's by then
  Event allocated;
  Event freed;  // of nobody while it is live
};

// Each `every`-th sample is to be guarded. False: there is no room for that many places. Once.
bool start(uint32_t every);
// Of those that are sampled, this one. Any thread.
bool is_due();
// nullptr: it cannot be, and need not. `n` is at most kMediumMax, the alignment at most a page's
// size; of the stack what fits is kept. No lock held, and the tag stays meanwhile.
void* allocate(Tag* tag, size_t n, size_t alignment, const StackFrame* frames, size_t depth);
// A live one, or one that another thread frees just now.
void free_block(Slab* slab);

// Of the live ones: bytes of pages beyond what was asked for.
size_t slack_bytes();
// Address space that they take; nullptr and 0 while there is none.
struct Pool {
  char* start;
  size_t bytes;
};
Pool pool();

// ---- For reports. They wait for nothing.

// Whose descriptor it is; nullptr: no place's.
Place* place_of(const Slab* slab);
// Of the block that is, or was, nearest to an address; nullptr: the address is not in the pool, or
// no block was near.
Place* nearest_to(uintptr_t address);
// Everybody may access the page, until the place is used again. False: the system refused.
bool let_through(uintptr_t address);

// Of the places' list. Taken before `central`.
extern constinit Lock lock;

}  // namespace tally::core::guarded
