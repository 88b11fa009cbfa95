// Paths of tags, or other texts, for a record: each once, where it stays.
#pragma once

#include <cstddef>
#include <cstdint>

#include "os/lock.h"

namespace tally::core {

// Paths with their NULs, one behind the other, and a hash table of where they begin. In memory that
// somebody else gives, so that only what is used of it is ever touched.
//
// Any thread, but for reset(). The lock is held for a moment only: who comes to a limit is not to
// wait for a walk, least of all for that of a thread with the least priority.
class Names {
 public:
  static constexpr uint32_t kNone = ~0U;
  static constexpr size_t kTextMost = 512 * 1024;
  static constexpr size_t kTableMost = 32768;
  static constexpr size_t kBytes = kTextMost + kTableMost * sizeof(uint32_t);

  // `memory`: kBytes. There is no name then, and no other thread.
  void reset(char* memory);
  // Where the path is, put there if it was nowhere yet; kNone if there is no room for it.
  uint32_t offset_of(const char* path);

  // Calls write(text, bytes, offset) with what was put there since the last time that it gave 0;
  // gives what it does.
  template <class Write>
  int write_new(Write write) {
    LockGuard guard(lock_);
    if (written_ == used_) return 0;
    int error = write(text_ + written_, used_ - written_, written_);
    if (error == 0) written_ = used_;
    return error;
  }
  uint32_t written() {
    LockGuard guard(lock_);
    return written_;
  }
  // Nothing of it was: all is new.
  void forget_written() {
    LockGuard guard(lock_);
    written_ = 0;
  }
  // In a forked child: who held the lock is gone.
  void reset_after_fork() { lock_.reset_after_fork(); }
  // A signal handler came in between, and must stay away.
  bool is_busy_here() const { return lock_.held_by_me(); }

 private:
  uint32_t* place_of(const char* path);
  void grow();

  Lock lock_;
  char* text_ = nullptr;
  uint32_t* table_ = nullptr;  // offsets, one more than they are; 0: free
  uint32_t used_ = 0;
  uint32_t written_ = 0;
  uint32_t count_ = 0;
  uint32_t mask_ = 0;  // of the part of the table that is in use
};

}  // namespace tally::core
