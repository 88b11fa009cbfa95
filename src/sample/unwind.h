// Stacks, by what .eh_frame tells of each frame, and by frame pointers where code has no such table
// (a just-in-time compiler's).
//
//   unwind          a step for each frame, until one is the outermost or leads nowhere
//     row_of        how to step from this address: from a cache, else
//     cfi::row_at   by the module's table
//     Stack::read   return address and frame pointer, from memory known to be there
//
// Nothing is allocated but entries of the table of modules, no lock taken but for that, and nothing
// of libc is called but _dl_find_object, which takes none: so that it may run wherever malloc may.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core {

// A frame of a stack: its return address, and the module that lies in, by its index in
// sample/modules.h. The address less one is in the call; of code that a signal interrupted, it is
// the first byte of the instruction that comes next.
struct StackFrame {
  uintptr_t address;
  uint32_t module;  // modules::kNone: in none
};

// The running thread's stack, innermost first, from the caller on, but without Tally's own frames
// where Tally is a library of its own. At most `most`; returns how many.
size_t unwind(StackFrame* frames, size_t most);

}  // namespace tally::core
