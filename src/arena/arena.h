// Arenas: memory that is handed out by moving a pointer, and taken back all at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/math.h"
#include "tag/tag.h"
#include "tally/tally.h"

namespace tally::core {

// The head of a block of the heap that an arena holds.
struct alignas(16) Segment {
  Segment* previous;
  uintptr_t used_to;  // where its last block ends; while it is bumped, the arena's cursor tells
  size_t bytes;       // that may be used, with this head

  uintptr_t start() const { return reinterpret_cast<uintptr_t>(this + 1); }
  uintptr_t end() const { return reinterpret_cast<uintptr_t>(this) + bytes; }
  size_t room() const { return bytes - sizeof *this; }
};
static_assert(sizeof(Segment) == 32);

// In the arena's own memory, where the mark was set.
struct Mark {
  Mark* previous;
  tally_mark serial;
  Segment* segment;  // the one that was bumped, in which this lies
  Segment* large;    // the last segment for one block
};
static_assert(sizeof(Mark) == 32);

// used = past_used_ + cursor - start of segment_, which is the segment that is bumped; past_used_
// and waste_ are sums over those before it, and over large_.
// reserved_ = bytes of the descriptor's block, of those of both lists and of kept_.
// cursor <= limit_ = end of segment_; all are 0 if there is none. end = limit_, or cursor where
// AddressSanitizer is told of each block.
//
// One thread at a time. Calls of the heap come where all this holds, as they may call the program.
class Arena : public tally_arena {
 public:
  // Sizes are powers of two, first <= most.
  Arena(Tag* tag, size_t first, size_t most, size_t keep);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Under the tag, of which the arena is then a block; nullptr and errno.
  static Arena* create(Tag* tag, size_t first, size_t most, size_t keep);
  void destroy();

  // nullptr and errno.
  void* allocate(size_t n, size_t alignment);
  // TALLY_MARK_NONE and errno.
  tally_mark mark();
  // False if the mark does not hold.
  bool rewind(tally_mark serial);
  void reset();
  void describe(tally_arena_stats_t* stats) const;

 private:
  uintptr_t at() const { return address(cursor); }
  size_t used() const { return past_used_ + (segment_ == nullptr ? 0 : at() - segment_->start()); }
  void* bump(size_t n, size_t alignment);
  void* allocate_large(size_t n, size_t alignment, size_t need);
  bool grow(size_t need);
  Segment* take(size_t wanted, size_t least);
  bool is_valid() const;  // a walk over the segments
  void push(Segment* segment);
  void pop();
  void pop_large();
  void give(Segment* segment);
  void keep_or_give(Segment* segment);
  void move_to(uintptr_t at, uintptr_t limit);

  uintptr_t limit_ = 0;
  Segment* segment_ = nullptr;  // and those before it
  Segment* large_ = nullptr;    // those for one block each
  Segment* kept_ = nullptr;     // for what comes next
  Mark* last_mark_ = nullptr;
  Tag* const tag_;
  const size_t first_;
  const size_t most_;
  const size_t keep_;
  size_t begin_with_;  // the next segment if there is none
  tally_mark next_serial_ = 0;
  size_t past_used_ = 0;
  size_t waste_ = 0;
  size_t peak_used_ = 0;  // as of the last reset or rewind
  size_t reserved_;
  size_t peak_reserved_;
  uint64_t segments_ = 0;
  uint64_t segments_taken_ = 0;
};

}  // namespace tally::core
