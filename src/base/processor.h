// What Tally knows of the processors that it runs on. Beside it: system calls, and what the kernel
// tells of a fault (os/system_call.h, os/fault_linux.cpp); and where compilers leave something to
// be desired on the fast paths of x86-64 (base/counter.h, memory/address_map.h, heap/heap.h).
#pragma once

#include <cstdint>

#if !defined(__x86_64__) && !defined(__aarch64__)
#error "Tally runs on x86-64 and aarch64"
#endif

namespace tally::core::processor {

// In a loop that waits.
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  asm volatile("yield");
#endif
}

// ---- Stacks. Registers as DWARF numbers them; on aarch64 the return address is one of them.

#if defined(__x86_64__)
inline constexpr unsigned kFramePointer = 6, kStackPointer = 7, kReturnAddress = 16;
#else
inline constexpr unsigned kFramePointer = 29, kStackPointer = 31, kReturnAddress = 30;
#endif

struct Registers {
  uintptr_t code;  // of an instruction
  uintptr_t sp;
  uintptr_t fp;
};

// Here, within the function that has it inlined.
__attribute__((always_inline)) inline Registers here() {
  Registers at;
#if defined(__x86_64__)
  asm volatile("lea 0(%%rip), %0; mov %%rsp, %1; mov %%rbp, %2"
               : "=r"(at.code), "=&r"(at.sp), "=&r"(at.fp));
#else
  asm volatile("adr %0, .; mov %1, sp; mov %2, x29" : "=&r"(at.code), "=&r"(at.sp), "=&r"(at.fp));
#endif
  return at;
}

// Without the signature that a return address on the stack may carry (pointer authentication).
inline uintptr_t without_signature(uintptr_t code) {
#if defined(__aarch64__)
  register uintptr_t x30 asm("x30") = code;
  asm("hint #7" : "+r"(x30));  // xpaclri, which older processors take for nothing to do
  return x30;
#else
  return code;
#endif
}

}  // namespace tally::core::processor
