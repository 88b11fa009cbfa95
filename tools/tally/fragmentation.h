// Memory that is taken and not in use: by tag and size, and what keeps it from going back.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bars.h"
#include "record.h"

namespace tally::tool {

// Of the heap: without /tally, and without what was charged and is none.
struct Held {
  uint64_t live = 0;
  uint64_t footprint = 0;
};
// By the tag of this path and all below it. `path` as names have it.
Held held(const Record& record, std::string_view path = "/");

// The blocks of one size under one tag.
struct FragRow {
  std::string tag;              // path, printable
  const record::ClassRow* row;  // in the record
  uint64_t live;                // bytes
  uint64_t free;                // footprint - live: free blocks, and ends that no block fits in
};

struct Fragmentation {
  Held held;
  uint64_t free = 0;  // held.footprint - held.live
  uint64_t slabs = 0;
  uint64_t sparse_slabs = 0;  // at most a quarter in use
  uint64_t sparse_free = 0;   // bytes of free blocks in those
  uint64_t lone_slabs = 0;    // the only one of its tag and size
  uint64_t lone_free = 0;
  uint64_t outside = 0;       // free, and in no slab that is in use: a trim gives it back
  std::vector<FragRow> rows;  // those with the most free bytes first
  bool has_fill = true;       // it is told how full slabs are: not in every dump

  double ratio() const { return held.live == 0 ? 0 : double(held.footprint) / double(held.live); }
};

// Of the tag of this path and all below it. Points into the record.
Fragmentation fragmentation_of(const Record& record, std::string_view path = "/");

// Those whose sparse slabs hold most, at most so many.
std::vector<const FragRow*> pinning(const Fragmentation& all, size_t most);

// What to do about it, in one sentence. `target` is how tally trim would be told.
std::string advice_on(const Fragmentation& all);

// The slabs of a class by how full they are, emptiest first.
std::string fill_of(const record::ClassRow& row, Bars kind);

}  // namespace tally::tool
