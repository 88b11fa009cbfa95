// The record's file: its folder, how it is made, and how it is written without ever touching
// another file of the program's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/text.h"
#include "os/os.h"
#include "record/layout.h"

namespace tally::record {

// One thread at a time, but for write(), read() and is_ours().
class File {
 public:
  static constexpr size_t kPathMost = 64;

  // Makes FOLDER and in it PID.tally, locked and all zero, and removes what dead processes left
  // there but for the newest. False: `why` was told, as "cannot ...".
  bool create(const char* folder, core::TextWriter& why);
  bool is_open() const { return fd_.load(std::memory_order_relaxed) >= 0; }
  const char* path() const { return path_; }
  int64_t pid() const { return pid_; }

  // The running process made the file: not one that shares its memory, or a copy of it.
  bool is_ours() const;
  // 0, or an errno; ESTALE: the descriptor leads elsewhere by now, and nothing was written.
  int write(const void* from, size_t bytes, uint64_t offset) const;
  bool read(void* to, size_t bytes, uint64_t offset) const;
  // After ESTALE: by its path, if it is still the same file. False: it is lost.
  bool find_again();

  // Lets go of the file: removed, it is no more; left, it is a dead process's, and in a forked
  // child still its parent's, as the lock is the description's.
  void remove();
  void leave();
  // Of both the first half: nobody finds it any more, and who writes to it may go on.
  void unlink() const;

 private:
  bool leads_there(int fd) const;
  int open_again(int* folder) const;

  std::atomic<int> fd_{-1};
  core::os::FileId id_;
  int64_t pid_ = 0;
  char folder_[kPathMost] = "";
  char name_[24] = "";
  char path_[kPathMost + 24] = "";
};

}  // namespace tally::record
