// Raw system calls, for the files of this folder that are Linux's alone.
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <cstdint>

#include "base/math.h"
#include "base/processor.h"

namespace tally::core::os {

// The result, or -errno.
inline long system_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                        long f = 0) {
#if defined(__x86_64__)
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
#else
  register long x8 asm("x8") = number;
  register long x0 asm("x0") = a;
  register long x1 asm("x1") = b;
  register long x2 asm("x2") = c;
  register long x3 asm("x3") = d;
  register long x4 asm("x4") = e;
  register long x5 asm("x5") = f;
  asm volatile("svc 0"
               : "+r"(x0)
               : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
               : "memory");
  return x0;
#endif
}

inline bool failed(long result) { return result < 0 && result > -4096; }
inline long as_long(const void* p) { return static_cast<long>(address(p)); }

// For the length of its scope a write that cannot be done (to a pipe without a reader, or beyond
// the longest file that the process may write) sends this thread no signal: what Tally tells must
// not end the program.
class NoSignal {
 public:
  explicit NoSignal(int signal) : set_(uint64_t{1} << (signal - 1)) {
    system_call(__NR_rt_sigprocmask, SIG_BLOCK, as_long(&set_), as_long(&blocked_), sizeof set_);
    if ((blocked_ & set_) != 0) system_call(__NR_rt_sigpending, as_long(&pending_), sizeof set_);
  }
  ~NoSignal() {
    if ((blocked_ & set_) != 0) return;
    system_call(__NR_rt_sigprocmask, SIG_UNBLOCK, as_long(&set_), 0, sizeof set_);
  }
  NoSignal(const NoSignal&) = delete;
  NoSignal& operator=(const NoSignal&) = delete;
  // Takes away the signal that our write brought, but none that waited before.
  void consume() {
    constexpr timespec kNow = {};
    if ((pending_ & set_) != 0) return;
    system_call(__NR_rt_sigtimedwait, as_long(&set_), 0, as_long(&kNow), sizeof set_);
  }

 private:
  uint64_t set_;  // as the kernel has it
  uint64_t blocked_ = 0, pending_ = 0;
};

}  // namespace tally::core::os
