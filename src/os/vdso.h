// What the kernel has mapped into the process for it to call without a system call: vdso(7).
#pragma once

#include <time.h>

#include <cstdint>

namespace tally::core::os {

// Where it begins, as a shared object does; 0: there is none, or it is hidden (valgrind).
uintptr_t vdso_image();
// As clock_gettime, but -errno is returned, and errno left alone.
using ClockReader = long (*)(clockid_t clock, timespec* now);
// nullptr: there is none. Takes no lock, relies on nothing that is to be relocated or constructed
// first, and costs a load once it is found.
ClockReader clock_reader();

}  // namespace tally::core::os
