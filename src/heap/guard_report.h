// What is said of guarded blocks (heap/guarded.h): accesses that fault, and the stacks behind the
// lines of heap/misuse.h. Lines of stacks are as AddressSanitizer's, so that what resolves those
// does these: address, (file+address in it), (BuildId).
#pragma once

#include "base/text.h"
#include "heap/guarded.h"

namespace tally::core {

// Each `every`-th sample is guarded, and what faults there is reported. False: it cannot be. Once,
// from the start or never; 0 does nothing.
bool start_guarding(uint32_t every);

// " (tag /x, guarded block of 24 bytes)"
void put_place(TextWriter& out, const guarded::Place& place);
// "1 byte past the end of", of the block [start, end).
void put_distance(TextWriter& out, uintptr_t at, uintptr_t start, uintptr_t end);
// On stderr, behind a line of it: the stacks of the running thread, of who allocated the block, and
// of who freed it.
void tell_history(const guarded::Place& place);

// Held while something is said. Taken before all others but those of tags and threads.
extern constinit Lock guard_report_lock;

}  // namespace tally::core
