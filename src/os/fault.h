// Accesses that the kernel refuses.
#pragma once

#include <cstdint>

namespace tally::core::os {

struct Fault {
  uintptr_t address;
  uintptr_t code;  // of the instruction
  enum class Access : uint8_t { kUnknown, kRead, kWrite } access;
};

// Calls `handler` at each one of a page that is not there or may not be accessed so: in a signal
// handler (SIGSEGV; on Linux memory without a file knows no SIGBUS), on the thread's alternate
// stack where it has one. True: the instruction is tried again. False: the fault, as all that the
// handler is not asked about, goes where it would have gone: to who handled it before, or to the
// default action, with a core of that instruction. Once. Through libc, so that the program sees it,
// and who handles faults after us can pass on what is not its own. False: that was refused.
bool on_fault(bool (*handler)(const Fault& fault));

}  // namespace tally::core::os
