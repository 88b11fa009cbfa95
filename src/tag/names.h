// Paths of tags, or other texts, for a record: each once, and where it is as long as it is needed.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/index.h"
#include "os/lock.h"

namespace tally::core {

// Paths with their NULs, each from a cell on, in memory that somebody else gives, of which only
// what is used is ever touched. They are written for one publication after the other. What neither
// that which is being made nor the one before it has use for gives its cells to others, the longest
// unused first: the one before is what a reader has if this one is never finished.
//
// Model: tests/model/pieces_model.cpp.
//
// Any thread, but for reset(). The lock is held for a moment only: who takes a sample is not to
// wait for a walk, least of all for that of a thread with the least priority.
class Names {
 public:
  static constexpr uint32_t kNone = ~0U;
  static constexpr size_t kTextMost = 512 * 1024;
  static constexpr size_t kCell = 32;
  static constexpr uint32_t kCells = kTextMost / kCell;
  static constexpr size_t kBytes =
      kTextMost + 2 * kCells * sizeof(uint64_t) + Index::slots_for(kCells) * sizeof(uint32_t);

  // `memory`: kBytes, zeroed. There is no name then, and no other thread.
  void reset(char* memory);
  // Where the path is, put there if it was nowhere yet; kNone if there is no room for it. What
  // `stays` is never given up.
  uint32_t offset_of(const char* path, bool stays = false);
  // The name at this offset is needed in the publication that is being made, too.
  void keep(uint32_t offset);

  // Calls write(data, bytes, offset) with what changed since the last time that it gave 0; gives
  // what it does. Twice: for each cell the publication that its name is there since, which lies
  // behind the text, and then the text.
  template <class Write>
  int write_new(Write write) {
    LockGuard guard(lock);
    if (changed_from_ == changed_to_) return 0;
    const uint32_t cells = changed_to_ - changed_from_;
    int error = write(since_ + changed_from_, cells * sizeof *since_,
                      kTextMost + changed_from_ * sizeof *since_);
    if (error == 0) error = write(text_at(changed_from_), cells * kCell, changed_from_ * kCell);
    if (error == 0) changed_from_ = changed_to_ = 0;
    return error;
  }
  // Bytes from the first on that names were ever put in.
  uint32_t used() {
    LockGuard guard(lock);
    return end_ * kCell;
  }
  // All that has these names is written: from here on the next is made.
  void publish();
  // In a file that nothing was published in yet.
  void begin_anew();
  // Innermost. A fork takes that of names which threads use in the midst of it.
  Lock lock;

 private:
  static constexpr uint64_t kStays = ~uint64_t{0};

  char* text_at(uint32_t cell) const { return text_ + cell * kCell; }
  uint32_t cells_at(uint32_t cell) const;
  uint32_t find_room(uint32_t cells);
  void put(const char* path, uint32_t at, uint32_t cells);

  char* text_ = nullptr;
  uint64_t* since_ = nullptr;  // by cells: the publication that a name was put there for
  uint64_t* used_ = nullptr;   // where a name begins: the last that has use for it; else 0
  Index index_;
  uint64_t publication_ = 1;      // that is being made
  uint32_t next_ = 0;             // cell where room is looked for first, at no name's middle
  uint32_t end_ = 0;              // cells that were ever used
  uint32_t no_room_for_ = kNone;  // so many cells, or more, until the next publication
  uint32_t changed_from_ = 0;     // cells
  uint32_t changed_to_ = 0;
};

}  // namespace tally::core
