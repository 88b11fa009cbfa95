// libstdc++'s headers with musl's: of what they were configured for, what musl does not have.
#define __GLIBC_PREREQ(major, minor) 0
#include_next <bits/c++config.h>
// Waiting on atomics, which Tally does not use, would bring in mutexes and locales as glibc has
// them.
#undef _GLIBCXX_HAS_GTHREADS
#undef _GLIBCXX_HAVE_LINUX_FUTEX
