// The programs and libraries that stacks were seen to lead through. What was found once keeps its
// index and its entry for good, so that an address still says what it lay in when that is no longer
// loaded; what was loaded in its place since has another.
//
// Any thread, signal handlers too: nothing waits here but for meta::lock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/libc.h"

namespace tally::core::modules {

inline constexpr size_t kMost = 1024;
inline constexpr uint32_t kNone = ~0U;

struct Entry {
  // What tells it from others, with the build id or the path: where it is, and what it has there.
  uintptr_t start;
  uintptr_t end;
  const void* unwinding;
  uint64_t fingerprint;
  uintptr_t bias;             // address in the process less that in the file's program headers
  const uint8_t* id_to_read;  // the build id in memory, if it can be compared there
  uint32_t is_program;
  uint32_t build_id_bytes;
  uint8_t build_id[32];
  uint32_t path_bytes;  // without the 0
  char path[];          // as it was opened; of the program its executable's; "[vdso]"
};

// Of a module that is loaded and stays so meanwhile; kNone: there is no room or no memory.
uint32_t index_of(const os::Module& module);
// How many there are, and each. `index` is less than what count() gave.
size_t count();
const Entry& at(size_t index);

}  // namespace tally::core::modules
