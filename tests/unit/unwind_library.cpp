// The walk within a library of its own, as in libtally.so.
#include "sample/unwind.h"

namespace {

__attribute__((noinline)) size_t unwind_deeper(int n, tally::core::StackFrame* frames,
                                               size_t most) {
  size_t count = n == 0 ? tally::core::unwind(frames, most) : unwind_deeper(n - 1, frames, most);
  asm volatile("" ::: "memory");
  return count;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) size_t library_unwind(
    tally::core::StackFrame* frames, size_t most) {
  return unwind_deeper(5, frames, most);
}
