// What the resident memory of a running process consists of, by its mappings.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "record/layout.h"

namespace tally::tool {

struct Resident {
  uint64_t heap = 0;    // of Tally: chunks, spans, metadata
  uint64_t code = 0;    // programs and libraries: pages of their files
  uint64_t data = 0;    // programs and libraries: what they wrote to, and data without a file
  uint64_t stacks = 0;  // of the main thread, and of others as far as their guards tell
  uint64_t brk = 0;     // [heap]: what other allocators took by brk
  uint64_t files = 0;   // other files
  uint64_t shared = 0;  // shared memory
  uint64_t others = 0;  // other private mappings
  uint64_t total = 0;
};

// `heap`: the record's ranges. None if the kernel does not say: it has ended, or is another user's.
std::optional<Resident> resident_of(long pid, std::span<const record::Range> heap);

// Bytes of a range that are in memory; none if that cannot be known.
using PresentIn = std::function<std::optional<uint64_t>(uint64_t start, uint64_t end)>;

// Of the text of /proc/PID/smaps.
Resident read_smaps(const std::string& smaps, std::span<const record::Range> heap,
                    const PresentIn& present);

}  // namespace tally::tool
