// Reading the heap while it runs. Takes no lock of the heap's and writes nothing to it; see
// heap/heap.h for the equations that the sums rest on.
#pragma once

#include <cstddef>

#include "tally/tally.h"

namespace tally::core {

// EINVAL, or 0.
int stats_of(uint32_t tag, tally_stats_t* stats);
// What a trim by all threads would surely give back of the tag and those below it: pages of its
// slabs that no block that is out can lie in.
uint64_t trimmable_bytes(uint32_t tag);
// Mapped for itself alone; nullptr: no memory.
tally_snapshot_t* take_snapshot();
// Memory that is kept from one snapshot to the next: to take it anew would cost more than the walk.
struct SnapshotSpace {
  char* start = nullptr;
  size_t bytes = 0;
};
// There, where it stays until the next. nullptr: no memory.
const tally_snapshot_t* take_snapshot_in(SnapshotSpace* space);
void free_snapshot(tally_snapshot_t* snapshot);

}  // namespace tally::core
