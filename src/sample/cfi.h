// How to step from a frame to its caller's: what .eh_frame tells of an address of code, as far as a
// stack walk needs it. Compilers write the table for exceptions, and Debian's binaries all have it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace tally::core::cfi {

enum class Kind : unsigned {
  kNone,    // the table says nothing, or what a Row cannot hold
  kEnd,     // there is no caller
  kCall,    // the caller goes on behind its call
  kSignal,  // a signal came: who was interrupted goes on where it was
};

// Of one address, in one word. Lengths are in words of 8 bytes.
//
//   base            = the stack pointer, or the frame pointer if by_fp
//   CFA             = base + cfa, or, if is_indirect, the word there + beyond
//   return address  = the word at CFA + ra, or at base + ra if ra_by_base
//   frame pointer   = likewise by `fp`; as it is if !has_fp
//   stack pointer   = CFA
struct Row {
  Kind kind : 2;
  unsigned by_fp : 1;
  unsigned is_indirect : 1;
  unsigned ra_by_base : 1;
  unsigned fp_by_base : 1;
  unsigned has_fp : 1;
  unsigned beyond : 4;
  int cfa : 21;
  int ra : 16;
  int fp : 16;

  uint64_t word() const { return std::bit_cast<uint64_t>(*this); }
  static Row of(uint64_t word) { return std::bit_cast<Row>(word); }
};
static_assert(sizeof(Row) == 8);

// Where code keeps a chain of frame pointers: each leads to the caller's, with the return address
// behind it.
inline constexpr Row kByFramePointer = {Kind::kCall, 1, 0, 0, 0, 1, 0, 2, -1, -2};

// By `table`, the .eh_frame_hdr of the module that is mapped at [start, end). Reads nothing that is
// not there, whatever the table says.
Row row_at(const void* table, uintptr_t start, uintptr_t end, uintptr_t code);

}  // namespace tally::core::cfi
