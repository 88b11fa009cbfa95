// What /proc tells about a process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

namespace tally::tool {

struct ProcessStatus {
  std::string name;  // at most 15 characters
  char state = '?';  // R, S, D, T, Z, ...
  uid_t uid = 0;     // effective
  uint64_t rss = 0;  // bytes
};
// None if there is no such process, or it has ended and only waits for its parent.
std::optional<ProcessStatus> process_status(long pid);

// The whole file; empty if it cannot be read.
std::string read_proc(long pid, const char* name);

// The user's name, or the number if there is none.
std::string user_name(uid_t uid);

}  // namespace tally::tool
