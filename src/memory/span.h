// Spans: whole slots for one block each, too large for a chunk. Freed ones are kept for a while, up
// to a bound; they are cut and joined as requests need.
#pragma once

#include <cstddef>
#include <cstdint>

#include "memory/chunk.h"
#include "memory/slab.h"

namespace tally::core {

// At least `bytes`, aligned to `alignment`; the descriptor has start and mapped set, and the first
// slot resolves to it. nullptr: no memory. Takes the central lock.
Slab* take_span(size_t bytes, size_t alignment, bool* zeroed);
// The span is free; its descriptor is kFree already. Hardened, `closing` as of a run; with
// TALLY_ZERO=1 none is kept.
void give_span(Slab* span, Closing closing = Closing::kKeep);
// Longer or shorter; may move, as the descriptor's start says then. False: all is as before.
bool resize_span(Slab* span, size_t bytes);
// The span in which p lies, or nullptr. The address map knows only where spans start; this looks at
// all of them, and is for messages about pointers that are none of a block.
const Slab* find_span(const void* p);
// Of a span in use, or of one that is kept, or that waits with its pages.
struct SpanFacts {
  char* start;
  size_t mapped;
  size_t used;  // by its block; 0: it is free
};
// Facts of some of the spans, at most `most`, after those that `*next` tells of (nullptr: from the
// first); sets it to nullptr behind the last. Holds the central lock for that. Returns how many.
// `most` is at least 64.
size_t list_spans(const Slab** next, SpanFacts* facts, size_t most);
// Of freed spans that wait for their purge. Any thread, without a lock.
size_t kept_span_bytes();
// As purge_runs, for kept spans.
size_t purge_spans(uint64_t now, bool all);
// As recover_slots: spans that others were about to unmap are unmapped.
void recover_spans();

}  // namespace tally::core
