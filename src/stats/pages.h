// Where the heap's memory lies, and what of it is resident: what counters cannot tell, as nobody
// hears of the first write to a page.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core {

struct Stretch {
  uintptr_t start;
  uintptr_t end;
};

// Address space of chunks, spans and metadata, as it is found; neighbours are joined.
class Stretches {
 public:
  Stretches(Stretch* to, size_t most) : to_(to), most_(most) {}
  void add(const void* start, size_t bytes);
  // Sorts and joins. Returns how many there are.
  size_t finish();
  size_t left_out() const { return left_out_; }

 private:
  void tidy();

  Stretch* to_;
  size_t most_;
  size_t count_ = 0;
  size_t left_out_ = 0;
};

// In bytes. To ask costs by the call, and a call tells of 1 MiB of one block at most. Of more than
// 256 such windows one in so many is looked at, and the rest is taken to be like them.
struct Pages {
  uint64_t untouched;  // of large blocks in use: not resident
  uint64_t dirty;      // free runs, and what slabs have not come to: resident
  uint64_t kept;       // freed spans: resident
  uint64_t ends;       // behind large blocks, where their slots or mappings go on: resident
};

// Of large blocks in use, about: how many there are, and their bytes. Takes the central lock for a
// moment at a time.
Pages look_at_pages(uint64_t large_blocks, uint64_t large_bytes, Stretches* stretches);

}  // namespace tally::core
