// What of the process's memory is resident.
#pragma once

#include <cstddef>

namespace tally::core::os {

// What the kernel counts as resident, and what of it is of files and shared memory; 0 if it does
// not say.
struct Resident {
  size_t all = 0, shared = 0;
};
Resident resident();
// From now on that opens no file, but in a process that was forked since. One thread at a time.
void keep_resident_at_hand();
// Of these bytes, whole pages of private memory, those that are resident; less if they are gone, or
// the system does not tell.
size_t resident_in(const void* p, size_t bytes);

}  // namespace tally::core::os
